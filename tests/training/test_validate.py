"""A misspelt key is never silently accepted, wherever it was written."""

import subprocess
import sys
from pathlib import Path

import pytest

from tubelet.training.launch import compose_config

ROOT = Path(__file__).parents[2]


def misspelt(*overrides):
    with pytest.raises(ValueError, match=r"there is no such (key|entry)") as caught:
        compose_config("train", ["data=motion", *overrides])
    return str(caught.value)


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("+trainer.max_epoch=1", "trainer.max_epoch: there is no such key; did you mean trainer.max_epochs?"),
        ("+modle.x=1", "modle: there is no such key; did you mean model?"),
        ("+optim.optimizer.bettas=[0,0]", "did you mean optim.optimizer.betas?"),
        ("+callbacks.best.moniter=x", "did you mean callbacks.best.monitor?"),
        ("+augment.flip.prob=1", "augment.flip.prob: there is no such key"),
        ("+clip.strid=1", "did you mean clip.stride?"),
        ("+views.clip=1", "did you mean views.clips?"),
        ("+data.size=3", "data.size: there is no such key; there are: batch_size"),
        ("+model.readout.norm=1", "model.readout.norm: there is no such key"),
        ("+sed=9", "did you mean seed?"),
        ("+augment.flipp.p=0.3", "augment.flipp: there is no such entry; did you mean augment.flip?"),
        ("+callbacks.bst.monitor=x", "callbacks.bst: there is no such entry; did you mean callbacks.best?"),
    ],
)
def test_a_misspelt_key_after_a_plus_is_named_with_the_nearest_right_one(override, told):
    assert told in misspelt(override)


@pytest.mark.parametrize(
    "override",
    [
        "+optim.optimizer.amsgrad=true",  # an argument of the target that conf/ does not list
        "+callbacks.early={_target_: lightning.pytorch.callbacks.EarlyStopping, monitor: val/top1}",
        "+augment.grey={_target_: torchvision.transforms.v2.RandomGrayscale, p: 0.1}",
        "~augment.flip",
        "+logger.wandb.entity=us",
    ],
)
def test_what_a_target_does_take_is_accepted(override):
    logger = ["logger=wandb"] if "wandb" in override else []
    compose_config("train", ["data=motion", *logger, override])


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("model.tubelet=[2.0,8,8]", "model.tubelet=[2.0,8,8]: 2.0 is not a whole number"),
        ("model.tubelet=[2,8,a]", "model.tubelet=[2,8,a]: a is not a whole number"),
        ("model.tubelet=[2,8]", "model.tubelet=[2,8] is not a list of 3 entries"),
        ("model.tubelet=8", "model.tubelet=8 is not a list"),
        ("model.dim=0", "model.dim=0 is not a positive number"),
        ("model.num_classes=0", "model.num_classes=0 is not a positive number"),
        ("model.num_classes=abc", "model.num_classes=abc is not a whole number"),
        ("model.mlp_ratio=-1", "model.mlp_ratio=-1 is not a positive number"),
        ("model.mlp_ratio=nan", "model.mlp_ratio=nan is not a positive number"),
        ("model.drop_path=-0.1", "model.drop_path=-0.1 is not a number of at least 0"),
        ("model.exact_gelu=1", "model.exact_gelu=1 is not true or false"),
        ("clip.mean=[0.5]", "clip.mean=[0.5] is not a list of 3 entries"),
        ("clip.std=[0,0,0]", "clip.std=[0,0,0]: 0 is not a positive number"),
        ("clip.stride=0", "clip.stride=0 is not a positive number"),
        ("clip.crop=[48]", "clip.crop=[48] is not a list of 2 entries"),
        ("clip=null", "clip=null is not a mapping"),
        ("views.clips=-1", "views.clips=-1 is not a positive number"),
        ("views.clips=null", "views.clips=null is not a whole number"),
        ("clip.fps=-5", "clip.fps=-5 is not a positive number"),
        ("clip.fps=film", "clip.fps=film is not a number"),
        ("model.crop=56", "model.crop=56, but clip.crop=48, which it follows; type clip.crop=56"),
    ],
)
def test_a_value_of_another_kind_than_those_in_conf_is_named_with_what_it_must_be(override, told):
    with pytest.raises(ValueError, match=r"=") as caught:
        compose_config("train", ["model=vivit_joint_tiny", override])
    assert str(caught.value) == told


@pytest.mark.parametrize(
    ("model", "override", "told"),
    [
        ("vivit_factorised_encoder", "model.time_mlp_ratio=abc", "is not a number"),
        ("vivit_hierarchical", "model.dims=[96,0]", "model.dims=[96,0]: 0 is not a positive number"),
        ("vivit_hierarchical", "model.dims=[]", "model.dims=[] is empty"),
        ("mvit", "model.q_strides=[1,1,1]", "model.q_strides=[1,1,1]: 1 is not a list"),
        ("mvit", "model.kv_strides=[[1,1.5,4],[1,2,2],[1,1,1]]", ": 1.5 is not a whole number"),
        ("mvit", "model.depths=[1,1,2.5]", "model.depths=[1,1,2.5]: 2.5 is not a whole number"),
        ("vivit_compressed_few", "model.regions=[a,2]", "model.regions=[a,2]: a is not a whole number"),
    ],
)
def test_lists_and_numbers_of_every_model_are_held_to_those_in_conf(model, override, told):
    with pytest.raises(ValueError, match=r"model\.") as caught:
        compose_config("train", [f"model={model}_tiny", override])
    assert str(caught.value).endswith(told)


@pytest.mark.parametrize(
    "overrides",
    [
        ["model=timesformer_tiny", "model.drop_path=0"],  # conf/ lists 0.1 only
        [
            "model=vivit_hierarchical_tiny",
            "model.dims=[8,8,8,8]",
            "model.mlp_ratio=2",
        ],  # lists of any length, 2 for 2.0
        ["model=mvit_tiny", "model.position={_target_:tubelet.layers.position.OneTable,_partial_:true}"],
        ["model=vivit_joint_tiny", "clip.mean=[0,0,0]", "clip.std=[1,1,1]", "clip.crop=[48,64]"],
        ["model=vivit_joint_tiny", "clip.crop=56", "model.crop=56"],
        ["model=vivit_joint_tiny", "model.readout._target_=tubelet.layers.readout.Mean"],
        ["model=vivit_factorised_encoder_tiny", "model.time_mlp_ratio=2.0", "model.num_classes=7"],
        ["callbacks.best=null", "optim.clip_norm=null", "trainer.max_epochs=null", "data.num_workers=0"],
        ["frozen_at=-1", "optim.weight_decay=0"],
        ["clip.fps=15", "views.starts._target_=tubelet.video.sampling.FirstOfEachPart"],
        ["clip.sampling._target_=tubelet.video.sampling.Segments", "data.max_failed=0"],
    ],
)
def test_values_that_conf_does_not_list_are_accepted_where_they_can_be_right(overrides):
    compose_config("train", ["data=motion", *overrides])


@pytest.mark.parametrize("typed", ["clip.stride=4", "++clip.stride=4"])
def test_a_stride_typed_beside_segments_is_an_error_since_it_has_no_part(typed):
    segments = "clip.sampling._target_=tubelet.video.sampling.Segments"
    with pytest.raises(ValueError, match=r"clip\.stride=4 has no effect with segments, .*; leave it out"):
        compose_config("train", ["data=motion", segments, typed])
    assert compose_config("train", ["data=motion", segments]).clip.stride > 0  # that of the model, told as without part


def test_what_chooses_frames_is_told_where_it_is_misspelt():
    sampling = "tubelet.video.sampling."
    for key, wrong, right in (
        ("clip.sampling", "Segment", "Segments"),
        ("views.starts", "FirstOfPart", "FirstOfEachPart"),
    ):
        with pytest.raises(ValueError, match=rf"did you mean tubelet\.video\.sampling\.{right}\?"):
            compose_config("train", ["data=motion", f"{key}._target_={sampling}{wrong}"])
    with pytest.raises(ValueError, match=r"clip\.sampling=Segments is not a mapping with a _target_; did you mean"):
        compose_config("train", ["data=motion", "clip.sampling=Segments"])
    with pytest.raises(ValueError, match=r"clip\.sampling\._partial_ must stay true"):
        compose_config("train", ["data=motion", "clip.sampling._partial_=false"])


POSITIONS = "tubelet.layers.position."


@pytest.mark.parametrize(
    ("override", "told"),
    [
        (
            "position=null",
            f"null is not a mapping with a _target_; did you mean 'model.position={{_target_:{POSITIONS}",
        ),
        ("position=SpaceTime", f"mean 'model.position={{_target_:{POSITIONS}SpaceTime,_partial_:true}}'?"),
        ("position._target_=SpaceTime", f"imported; there are: {POSITIONS}OneTable, {POSITIONS}SpaceTime"),
        (f"position._target_={POSITIONS}Spacetime", f"cannot be imported; did you mean {POSITIONS}SpaceTime?"),
        ("position._target_=null", "model.position._target_=null is not the name of a class or function"),
        ("readout._partial_=false", "model.readout._partial_ must stay true"),
        (f"readout._target_={POSITIONS}OneTable", f"{POSITIONS}OneTable is not of tubelet.layers.readout"),
        ("readout._target_=os.system", "model.readout._target_=os.system is not a class; there are: tubelet.layers"),
    ],
)
def test_a_part_of_a_model_that_cannot_be_built_is_told_with_those_that_can(override, told):
    with pytest.raises(ValueError, match=r"model\.") as caught:
        compose_config("train", ["model=vivit_joint_tiny", f"model.{override}"])
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("overrides", "first_line"),
    [
        (["model=vivit_jointt"], "error: model=vivit_jointt: there is no such model; did you mean model=vivit_joint?"),
        (["data.batchsize=3"], "error: data.batchsize: there is no such key; did you mean data.batch_size?"),
        (["+trainer.max_epoch=1"], "error: trainer.max_epoch: there is no such key; did you mean trainer.max_epochs?"),
        (["modle=x"], "error: modle: there is no such key; did you mean model?"),
        (["data=folder"], "error: data.root has no value; give it on the command line: data.root=..."),
    ],
)
def test_a_mistaken_command_is_told_in_its_first_line_at_once(overrides, first_line, tmp_path):
    command = [sys.executable, str(ROOT / "train.py"), *overrides]
    process = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert process.returncode == 1
    assert process.stderr.splitlines()[0] == first_line
    assert "Traceback" not in process.stderr


def test_a_misspelt_key_in_an_experiment_file_is_named(tmp_path):
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment/mine.yaml").write_text("# @package _global_\noptim: {learning_rate: 1.0e-3}\n")
    command = [sys.executable, str(ROOT / "train.py"), "--config-dir", str(tmp_path), "experiment=mine"]
    process = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert process.returncode == 1
    assert process.stderr.startswith("error: optim.learning_rate: there is no such key")


def test_help_answers_without_importing_torch(tmp_path):
    lines = [
        "import runpy, sys",
        "sys.argv = ['train.py', '--help']",
        "try:",
        f"    runpy.run_path({str(ROOT / 'train.py')!r}, run_name='__main__')",
        "except SystemExit:",
        "    print('torch' in sys.modules)",
    ]
    code = "\n".join(lines)
    process = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "vivit_joint_tiny" in process.stdout
    assert process.stdout.splitlines()[-1] == "False"
