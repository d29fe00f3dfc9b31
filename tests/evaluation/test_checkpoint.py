import os

import pytest
import torch

from tubelet.evaluation.checkpoint import build_module, load_checkpoint
from tubelet.models.vivit import Joint

SMALL = {"num_frames": 2, "crop": 16, "tubelet": [2, 8, 8], "dim": 12, "depth": 1, "heads": 2, "num_classes": 3}
MODEL = {"_target_": "tubelet.models.vivit.Joint", **SMALL}


@pytest.fixture
def saved(tmp_path):
    """A checkpoint file of a small random model, and the model."""
    model = Joint(**SMALL).eval()
    weights = {f"predictor.model.{name}": value for name, value in model.state_dict().items()}
    record = {"config": {"model": MODEL}, "classes": ["a", "b", "c"]}
    torch.save({"state_dict": weights, "tubelet": record}, tmp_path / "a.ckpt")
    return str(tmp_path / "a.ckpt"), model


def test_a_checkpoint_alone_gives_the_same_logits(saved):
    path, model = saved
    video = torch.randn(1, 3, 2, 16, 16)
    checkpoint = load_checkpoint(path)
    assert checkpoint.classes == ["a", "b", "c"]
    assert checkpoint.build_model()(video).equal(model(video))


@pytest.mark.parametrize(
    "target", ["os.system", "tubelet.training.launch.launch", "torch.nnx.Linear", "builtins.eval", 3]
)
def test_nothing_but_models_is_built_from_a_checkpoint(target):
    with pytest.raises(ValueError, match="is not a model; it is not built"):
        build_module({"_target_": target})


@pytest.mark.parametrize("place", [lambda bad: {"head": bad}, lambda bad: {"parts": [{"deep": bad}]}])
def test_nested_targets_are_checked_before_anything_is_imported(place, monkeypatch):
    monkeypatch.setattr("importlib.import_module", lambda name: pytest.fail(f"{name} was imported"))
    with pytest.raises(ValueError, match=r"os\.system"):
        build_module({**MODEL, **place({"_target_": "os.system"})})


@pytest.mark.parametrize(
    "data",
    [
        {"_target_": "torch.hub.load", "source": "local", "repo_or_dir": "x", "model": "y"},
        {"_target_": "tubelet.video.motion.shutil.rmtree", "path": "x"},
        {"_target_": "tubelet.video.annotations.read_folder", "root": {"_target_": "torch.load", "f": "x"}},
        {"_target_": "tubelet.video.annotations.read_folder", "root": "${oc.env:HOME}"},
    ],
)
def test_a_checkpoint_cannot_name_what_lists_its_videos_but_a_data_set_of_ours(data, saved):
    checkpoint = load_checkpoint(saved[0])
    checkpoint.config["data"] = data
    with pytest.raises(ValueError, match="which is not ours; pass data="):
        checkpoint.data()


TRANSFORM = {
    "clip": {"num_frames": 3, "stride": 2, "resize": 32, "crop": 24},
    "views": {"clips": 2, "crops": 1},
}
OURS = "tubelet.video.sampling."


def with_transform(saved, tmp_path, sampling=None, starts=None):
    """The checkpoint of `saved`, whose config has also a clip and views, and these nodes in them."""
    content = torch.load(saved[0], weights_only=True)
    clip = TRANSFORM["clip"] | ({"fps": None, "sampling": sampling} if sampling else {})
    views = TRANSFORM["views"] | ({"starts": starts} if starts else {})
    content["tubelet"]["config"] |= {"clip": clip, "views": views}
    torch.save(content, tmp_path / "b.ckpt")
    return load_checkpoint(str(tmp_path / "b.ckpt"))


def frames_of(views):
    return views.sample(11, 25.0, torch.Generator()).tolist()


def test_a_checkpoint_from_before_there_was_a_choice_of_frames_is_dense_from_the_first_to_the_last_start(
    saved, tmp_path
):
    views = with_transform(saved, tmp_path).build_views()
    assert frames_of(views) == [[0, 2, 4], [6, 8, 10]]
    assert (views.resize, views.crop, views.num_clips, views.num_crops) == (32, 24, 2, 1)


def test_the_frames_of_a_checkpoint_are_chosen_as_its_config_says(saved, tmp_path):
    dense, segments = ({"_target_": f"{OURS}{name}", "_partial_": True} for name in ("Dense", "Segments"))
    parts = {"_target_": f"{OURS}FirstOfEachPart"}
    assert frames_of(with_transform(saved, tmp_path, dense, parts).build_views()) == [[0, 2, 4], [3, 5, 7]]
    assert frames_of(with_transform(saved, tmp_path, dense, parts).build_views(1, 3)) == [[0, 2, 4]]
    assert frames_of(with_transform(saved, tmp_path, segments, parts).build_views(1)) == [[1, 5, 9]]


@pytest.mark.parametrize(
    "sampling",
    [
        {"_target_": "os.system"},
        {"_target_": f"{OURS}order_named", "_partial_": True},
        {"_target_": f"{OURS}Dense", "_partial_": True, "fps": {"_target_": "os.getcwd"}},
        {"_target_": f"{OURS}FirstToLast"},
        {},
    ],
)
def test_a_checkpoint_cannot_name_what_chooses_frames_but_classes_of_ours(sampling, saved, tmp_path):
    checkpoint = with_transform(saved, tmp_path, sampling or {"_partial_": True})
    with pytest.raises(ValueError, match=r"its config chooses frames by .*, which is not ours"):
        checkpoint.check_sampling()
    with pytest.raises(ValueError, match="which is not ours"):
        checkpoint.build_views()


def test_a_function_of_an_allowed_module_is_not_called():
    with pytest.raises(ValueError, match="is not a module class"):
        build_module({"_target_": "tubelet.layers.embed.token_grid", "num_frames": 2})


def test_a_file_that_would_run_code_is_refused(tmp_path):
    class Harmful:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "harmed"),)

    torch.save({"tubelet": Harmful()}, tmp_path / "bad.ckpt")
    with pytest.raises(ValueError, match=r"bad.ckpt is not a checkpoint of plain tensors"):
        load_checkpoint(str(tmp_path / "bad.ckpt"))
    assert not (tmp_path / "harmed").exists()


def test_files_that_are_no_checkpoints_of_ours_are_named_as_such(tmp_path, saved):
    with pytest.raises(FileNotFoundError, match=r"absent.ckpt: there is no such file"):
        load_checkpoint(str(tmp_path / "absent.ckpt"))
    torch.save({"state_dict": {}}, tmp_path / "foreign.ckpt")
    with pytest.raises(ValueError, match="was not written by tubelet"):
        load_checkpoint(str(tmp_path / "foreign.ckpt"))
    with open(saved[0], "rb") as whole:
        (tmp_path / "cut.ckpt").write_bytes(whole.read()[:1000])
    with pytest.raises(ValueError, match=r"cut.ckpt is not a checkpoint of plain tensors, or is damaged"):
        load_checkpoint(str(tmp_path / "cut.ckpt"))


def test_weights_that_do_not_fit_the_config_are_an_error(saved):
    checkpoint = load_checkpoint(saved[0])
    checkpoint.config["model"] = MODEL | {"num_classes": 4}
    with pytest.raises(ValueError, match="do not fit the model"):
        checkpoint.build_model()
