"""benchmarks/models.py: what it counts, by hand, and one short run."""

import csv
import importlib
import sys
from functools import partial
from pathlib import Path
from statistics import median

import pytest
import torch
from torch import nn

from tubelet.models.vivit import Joint

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import contest  # noqa: E402
import measure  # noqa: E402
import models  # noqa: E402
import pairs  # noqa: E402
import tables  # noqa: E402


@pytest.fixture(autouse=True)
def threads():
    """The script sets them for its process."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


class ByHand(nn.Module):
    """Keeps the clip, for the gradient of the weight, and what `exp` gives, for its own and for that of the square."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(5, 3)
        self.register_buffer("scale", torch.ones(3))

    def forward(self, video):
        return (self.fc(video).exp().square() * self.scale).sum()


def test_what_a_module_keeps_for_its_backward_is_counted_once_and_without_parameters_and_buffers():
    model, video = ByHand(), torch.rand(7, 5)
    assert measure.kept_bytes(model, lambda: model(video)) == 4 * (7 * 5 + 7 * 3)


def test_readings_are_taken_in_turns():
    made, ticks = [], iter(range(100))
    calls = {name: lambda name=name: made.append(name) for name in "AB"}
    seconds = measure.in_turns(calls, 3, lambda: next(ticks), lambda line: None, at_least=0.1)
    assert made == [*"AABB", *"ABABAB"]  # two of each before the clock starts
    assert seconds == {"A": [1, 1, 1], "B": [1, 1, 1]}


def test_short_calls_are_repeated_and_a_reading_is_their_mean():
    made, ticks = [], iter([0.0, 0.25, 0.0, 1.5])  # warm in a quarter of a second, so six calls for 1.5
    seconds = measure.in_turns({"A": lambda: made.append(1)}, 1, lambda: next(ticks), lambda line: None, at_least=1.5)
    assert len(made) == 2 + 6
    assert seconds == {"A": [0.25]}


def test_ratios_are_of_readings_of_one_round():
    """Their median is not the ratio of the medians, which is 3."""
    columns = {"peer": [2.0, 9.0, 6.0], "ours": [1.0, 2.0, 6.0]}
    assert tables.ratios(columns) == {"peer / ours": [2.0, 4.5, 1.0]}
    row = tables.table([tables.Readings("m", "forward", "s", columns)], compiled=False).splitlines()[-1]
    assert row == "| forward, s | 6 (2 to 9) | 2 (1 to 6) | 2.00 (1.00 to 4.50) |"


def test_the_better_of_the_peers_columns_meets_the_better_of_ours():
    columns = {"peer": [4.0, 4.0], "ours": [1.0, 2.0], "peer compiled": [3.0, 2.0], "ours compiled": [2.0, 4.0]}
    found = tables.ratios(columns)
    assert found["compiled"] == [1.5, 0.5]
    assert found["better / better"] == [3.0, 1.0]  # peer compiled, ours as run


def test_the_products_of_linear_layers_are_noted_with_their_shapes():
    model = nn.Sequential(nn.Linear(5, 3), nn.ReLU(), nn.Linear(3, 3), nn.Linear(3, 3))
    with measure.LinearShapes() as noted:
        model(torch.rand(2, 7, 5))
    assert noted.shapes == {(14, 3, 5): 1, (14, 3, 3): 2}


def test_models_that_do_not_agree_are_not_compared():
    model, other = (nn.Sequential(nn.Flatten(), nn.Linear(3 * 2 * 4 * 4, 5)) for _ in range(2))
    pair = pairs.Pair("another", model, other, lambda: model, lambda video: video)
    setting = contest.Setting("cpu", False, 1, 1, False, None)
    against = contest.Contest("m", pair, torch.rand(2, 3, 2, 4, 4), 96 * 5, setting, lambda line: None)
    with pytest.raises(SystemExit, match="error: m: logits differ by"):
        against.compare_logits()


@pytest.mark.parametrize(("name", "v2"), [("mvit_v2_s", True), ("mvit_v1_b", False)])
def test_torchvisions_model_of_any_size_is_its_published_one_at_that_size(name, v2):
    from torchvision.models import get_model

    with torch.device("meta"):
        published, built = get_model(name, weights=None), pairs.torchvision_mvit(16, 224, v2)
    shapes = [{key: value.shape for key, value in model.state_dict().items()} for model in (published, built)]
    assert len(shapes[0]) > 200
    assert shapes[1] == shapes[0]
    layers = [
        [(name, str(part)) for name, part in model.named_modules() if not [*part.children()] and "p=0" not in str(part)]
        for model in (published, built)
    ]  # all that compute; theirs drops at random
    assert len(layers[0]) > 100
    assert layers[1] == layers[0]


@torch.no_grad()
def test_a_pair_gives_the_same_logits_and_drops_nothing_in_training():
    """The smallest pair; every run of the script compares those that it runs."""
    pair, video = pairs.CASES["mvit_v2_s"].pair(4, 64), torch.randn(2, 3, 4, 64, 64)
    peer, ours = pair.peer.train()(pair.to_peer(video)), pair.ours.train()(video)
    assert peer.std() > 0.1  # logits of no size would agree by being small
    torch.testing.assert_close(ours, peer, rtol=0, atol=1e-4)  # as in tests/models/test_mvit.py


def twins(num_frames, crop):
    """A tiny model of ours against itself."""
    build = partial(Joint, pairs.CLASSES, num_frames, crop, dim=24, depth=1, heads=2)
    peer, ours = pairs.filled(build()), build()
    ours.load_state_dict(peer.state_dict())
    return pairs.Pair("itself", peer, ours, build, lambda video: video)


def test_a_short_run_writes_tables_and_every_reading(tmp_path, monkeypatch, capsys):
    told = ["--models", "twins,absent", "--size", "small", "--rounds", "2", "--out", str(tmp_path / "page.md")]
    monkeypatch.setattr(sys, "argv", ["benchmarks/models.py", *told])
    monkeypatch.setitem(pairs.CASES, "twins", pairs.Case(twins, 8))
    monkeypatch.setitem(pairs.CASES, "absent", pairs.Case(lambda *_: importlib.import_module("no_such_peer"), 8))
    models.main()
    page, printed = (tmp_path / "page.md").read_text(), capsys.readouterr()
    assert page.startswith("<!-- written by benchmarks/models.py -->")
    assert "`python benchmarks/models.py --models twins,absent --size small --rounds 2 --out" in page
    assert printed.out.strip() in page
    assert "training step, round 2 of 2: peer" in printed.err
    assert "absent is left out: no_such_peer is not installed" in printed.err

    with open(tmp_path / "page.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    forward = [row for row in rows if (row["measure"], row["unit"]) == ("forward", "s")]
    peer, ours = ([float(row["value"]) for row in forward if row["column"] == side] for side in ("peer", "ours"))
    assert len(peer) == len(ours) == 2
    line = next(line for line in page.splitlines() if line.startswith("| forward, s |"))
    assert line.split(" | ")[3].startswith(f"{median([peer[0] / ours[0], peer[1] / ours[1]]):.2f} (")
    assert {row["value"] for row in rows if row["measure"] == "graph breaks"} == {"0"}


def test_a_page_that_is_not_its_own_is_not_written_over(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["models.py", "--out", str(BENCHMARKS / "README.md")])
    with pytest.raises(SystemExit, match="2"):
        models.arguments()
    assert "was not written by this script" in capsys.readouterr().err
