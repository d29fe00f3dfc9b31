"""What a person is told of an error."""

import os
import signal

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import ConfigCompositionException, HydraException, InstantiationException, OverrideParseException
from hydra.utils import instantiate
from torch.utils.data import DataLoader

from tubelet.training.explain import one_line
from tubelet.training.launch import compose_config, config_dir, told_in_one_line


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("vivit_joint", "vivit_joint is not key=value; did you mean model=vivit_joint?"),
        ("vivit_jiont", "vivit_jiont is not key=value; did you mean model=vivit_joint?"),
        ("seed", "seed is not key=value; such as seed=1"),
    ],
)
def test_a_word_without_a_value_is_taken_for_a_choice_of_a_group(word, told):
    with pytest.raises(OverrideParseException) as caught:
        OverridesParser.create().parse_overrides([word])
    assert one_line(caught.value, config_dir()) == told


@pytest.mark.parametrize(
    ("override", "right", "value"),
    [
        (
            "data.classes=[shooting_goal_(soccer),abseiling, 'a b' ]",
            "data.classes=['shooting_goal_(soccer)',abseiling,'a b']",
            ["shooting_goal_(soccer)", "abseiling", "a b"],
        ),
        ("data.root=videos(1)", "data.root='videos(1)'", "videos(1)"),
        ("data.root=Ann's (1)", r"data.root='Ann\'s (1)'", "Ann's (1)"),
    ],
)
def test_the_quotes_that_are_proposed_make_an_override_that_can_be_read(override, right, value):
    with pytest.raises(OverrideParseException) as caught:
        OverridesParser.create().parse_overrides([override])
    assert one_line(caught.value, config_dir()).endswith(f'needs quotes: "{right}"')
    assert OverridesParser.create().parse_override(right).value() == value


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("optim.lr=choice(null,1e-3)", "no function takes null; a list without one does, such as optim.lr=null,1"),
        ("optim.lr=tag(log,choice())", "empty choice is not legal"),
        ("optim.lr=interval(1)", "missing a required argument: 'end'"),
        (
            "optim.lr=tag(log,intervall(1,2))",
            "there is no function intervall among bool, choice, float, glob, int, interval, range, shuffle, sort, str, "
            "tag; a value with spaces or special letters needs quotes: \"optim.lr='tag(log,intervall(1,2))'\"",
        ),
    ],
)
def test_a_function_that_hydra_cannot_call_is_told_with_the_reason(override, told):
    with pytest.raises(OverrideParseException) as caught:
        OverridesParser.create().parse_overrides([override])
    assert one_line(caught.value, config_dir()) == f"cannot read {override}: {told}"


@pytest.mark.parametrize(
    ("node", "told"),
    [
        (
            {"_target_": "torch.nn.Linear", "in_features": 2, "out_features": -1},
            "RuntimeError: Trying to create tensor",
        ),
        ({"_target_": "torch.nn.Linear", "in_features": 2}, "TypeError: Linear.__init__() missing 1 required"),
        ({"_target_": "operator.floordiv", "_args_": [1, 0]}, "ZeroDivisionError: integer division or modulo by zero"),
    ],
)
def test_what_fails_to_build_is_named_with_the_error_of_python(node, told):
    with pytest.raises(InstantiationException) as caught:
        instantiate(node)
    name = node["_target_"].rpartition(".")[2]
    assert f".{name} fails with these values: {told}" in one_line(caught.value, config_dir())


def test_a_key_of_other_data_in_an_evaluation_is_told_with_the_data_set_that_it_needs():
    with pytest.raises(ConfigCompositionException) as caught:
        compose_config("eval", ["ckpt=x", "data.train=train.txt"])
    told = one_line(caught.value, config_dir())
    assert told.startswith("data.train: there is no such key")
    assert told.endswith(
        "other data than those of the checkpoint need their data set too, such as data=list data.train=..."
    )
    with pytest.raises(ConfigCompositionException) as caught:
        compose_config("train", ["data.trian=train.txt", "data=list"])
    assert "other data" not in one_line(caught.value, config_dir())


def test_a_command_that_gets_sigterm_ends_as_one_that_is_interrupted(capsys):
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as caught, told_in_one_line():
        os.kill(os.getpid(), signal.SIGTERM)
    assert caught.value.code == 128 + signal.SIGTERM
    assert capsys.readouterr().err == "interrupted\n"
    assert signal.getsignal(signal.SIGTERM) == before


class Killed(list):
    """Ends the process that reads from it, as the system does when memory is short."""

    def __getitem__(self, place):
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_decoding_process_that_was_killed_is_told_with_the_usual_cause():
    with pytest.raises(RuntimeError) as caught:
        next(iter(DataLoader(Killed([1, 2]), num_workers=1)))
    told = one_line(caught.value, config_dir())
    assert told.startswith("DataLoader worker (pid")
    assert told.endswith(
        "most often for want of memory, of which fewer data.num_workers or a smaller data.batch_size take less"
    )


def test_an_error_of_the_code_keeps_its_traceback():
    assert one_line(TypeError("'str' object is not callable"), config_dir()) is None


def test_sentences_of_hydra_are_told_whole_and_endless_values_cut():
    assert one_line(HydraException("it is refused because it allows\nwhat is bad"), "") == (
        "it is refused because it allows what is bad"
    )
    told = one_line(ValueError(f"invalid literal: '{'abc' * 100}'"), "")
    assert told == f"invalid literal: '{'abc' * 19}ab..."
