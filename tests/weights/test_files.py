"""Files of weights: every format gives the same tensors, and a file that is none says so."""

import argparse
import os
import re
import struct

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tubelet.weights.files import read_weights
from tubelet.weights.msgpack import unpack

STATE = {"a.weight": torch.arange(6.0).reshape(2, 3), "b": torch.tensor([1.5, -2.0])}


def packed(value):
    """msgpack as flax writes it: maps, text, and arrays as its extension 1. Written from the specification."""
    if isinstance(value, dict):
        return bytes([0x80 | len(value)]) + b"".join(packed(k) + packed(v) for k, v in value.items())
    if isinstance(value, str):
        return bytes([0xD9, len(value)]) + value.encode()
    if isinstance(value, bool):
        return b"\xc3" if value else b"\xc2"
    if isinstance(value, int):
        return b"\xcd" + struct.pack(">H", value)
    if isinstance(value, bytes):
        return b"\xc5" + struct.pack(">H", len(value)) + value
    if isinstance(value, tuple):
        return bytes([0x90 | len(value)]) + b"".join(packed(v) for v in value)
    content = packed((value.shape, value.dtype.name, value.tobytes()))
    return b"\xc8" + struct.pack(">Hb", len(content), 1) + content


def test_torch_safetensors_numpy_and_flax_files_give_the_same_weights(tmp_path):
    torch.save(STATE, tmp_path / "plain.pth")
    torch.save({"epoch": 3, "cfg": "text", "model_state": STATE}, tmp_path / "nested.pyth")
    torch.save({"model": STATE, "args": argparse.Namespace(lr=0.1)}, tmp_path / "with_arguments.pth")
    save_file(STATE, tmp_path / "model.safetensors")
    np.savez(tmp_path / "flat.npz", **{name: value.numpy() for name, value in STATE.items()}, step=np.array(3))
    arrays = {name: value.numpy() for name, value in STATE.items()}
    (tmp_path / "checkpoint").write_bytes(packed(arrays))
    for name in ("plain.pth", "nested.pyth", "with_arguments.pth", "model.safetensors", "flat.npz", "checkpoint"):
        torch.testing.assert_close(read_weights(tmp_path / name).state, STATE, rtol=0, atol=0)


def test_nested_flax_names_are_joined_and_the_step_is_left_out(tmp_path):
    tree = {"step": 700, "optimizer": {"target": {"embedding": {"kernel": np.ones((1, 2), np.float32)}}}}
    (tmp_path / "checkpoint").write_bytes(packed(tree))
    state = read_weights(tmp_path / "checkpoint").state
    assert list(state) == ["optimizer/target/embedding/kernel"]


def test_an_array_that_flax_has_cut_into_chunks_is_joined():
    chunks = {"0": np.arange(4.0), "1": np.arange(4.0, 6.0)}
    tree = {"x": {"__msgpack_chunked_array__": True, "shape": {"0": 3, "1": 2}, "chunks": chunks}}
    assert unpack(packed(tree))["x"].tolist() == [[0, 1], [2, 3], [4, 5]]


@pytest.mark.parametrize(
    ("data", "value"),
    [  # the examples of the specification's formats
        (b"\x07", 7),
        (b"\xff", -1),
        (b"\xc0", None),
        (b"\xcb\x3f\xf8\x00\x00\x00\x00\x00\x00", 1.5),
        (b"\xd1\xff\x00", -256),
        (b"\xa2ab", "ab"),
        (b"\xdb\x00\x00\x00\x01z", "z"),
        (b"\xdc\x00\x02\x01\x02", [1, 2]),
        (b"\xde\x00\x01\xa1k\xc4\x01v", {"k": b"v"}),
    ],
)
def test_msgpack_is_read_as_specified(data, value):
    assert unpack(data) == value


def test_bfloat16_is_the_upper_half_of_a_float32():
    content = packed(((2,), "bfloat16", np.array([0x3FC0, 0xC000], np.uint16).tobytes()))
    assert unpack(b"\xc7" + bytes([len(content), 1]) + content).tolist() == [1.5, -2.0]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (packed({"x": np.ones(3)})[:-5], "it ends after 44 bytes, within an object: the file is cut"),
        (b"\xc1", "its bytes are no msgpack: 0xc1 begins nothing"),
        (b"\x01\x02", "its bytes are no msgpack: 1 are left over"),
        (b"\xd4\x05\x00", "it holds an object of msgpack's extension 5, which flax does not write"),
    ],
)
def test_damaged_msgpack_is_told(data, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        unpack(data)


def test_an_array_whose_bytes_are_not_its_size_is_refused():
    content = packed(((3,), "float32", b"1234"))
    with pytest.raises(ValueError, match=r"^it holds an array of float32 \(3,\) in 4 bytes$"):
        unpack(b"\xc7" + bytes([len(content), 1]) + content)


@pytest.mark.parametrize("name", ["a.pth", "a.npz", "a.safetensors", "checkpoint"])
def test_an_empty_file_is_told(name, tmp_path):
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(ValueError, match=r"^it is empty, of 0 bytes; download or copy it again$"):
        read_weights(tmp_path / name)


@pytest.mark.parametrize("name", ["model.py", "a.pth", "a.safetensors", "a.npz", "checkpoint"])
def test_a_text_is_told_with_its_beginning(name, tmp_path):
    (tmp_path / name).write_text("import torch\r\nnn = torch.nn\n")
    with pytest.raises(ValueError, match=r"^it is a text, not weights; it begins with 'import torch'$"):
        read_weights(tmp_path / name)


def test_a_file_that_git_lfs_has_not_fetched_is_told(tmp_path):
    (tmp_path / "a.bin").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    with pytest.raises(ValueError, match=r"^it is what Git LFS leaves in the place of a file; .*: git lfs pull$"):
        read_weights(tmp_path / "a.bin")


@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_of_torch_named_safetensors_is_told_as_torchs(zipped, tmp_path):
    torch.save(STATE, tmp_path / "a.safetensors", _use_new_zipfile_serialization=zipped)
    message = "its name says safetensors, but by its first bytes it is a file of torch, whose names end in .pt"
    with pytest.raises(ValueError, match=f"^{message}$"):
        read_weights(tmp_path / "a.safetensors")


@pytest.mark.parametrize("name", ["a.pt", "a.npz", "model"])
def test_a_file_of_safetensors_with_another_name_is_told(name, tmp_path):
    save_file(STATE, tmp_path / name)
    with pytest.raises(
        ValueError, match=r"^it is a file of safetensors by .*; give its name the ending \.safetensors$"
    ):
        read_weights(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a.safetensors", "its name says safetensors, but by its first bytes it is something else"),
        ("a.npz", r"its name says \.npz, but its first bytes are not those of one"),
        (
            "video.mp4",
            "by its first bytes it is none of what is read: torch's files, safetensors, .npz, flax's msgpack",
        ),
    ],
)
def test_a_video_in_the_place_of_weights_is_told(name, message, tmp_path):
    (tmp_path / name).write_bytes(b"\x00\x00\x00\x20ftypisom" + bytes(100))
    with pytest.raises(ValueError, match=f"^{message}$"):
        read_weights(tmp_path / name)


@pytest.mark.parametrize("text", ["\x00hello", "\x00" * 100])
def test_what_is_no_file_of_torch_is_told_without_the_advice_to_run_it(text, tmp_path):
    (tmp_path / "a.pth").write_text(text)
    message = "it cannot be read as weights alone, and nothing else in a file is run: it is cut, or not torch's"
    with pytest.raises(ValueError, match=f"^{message}$"):
        read_weights(tmp_path / "a.pth")


def test_a_whole_module_is_told_with_its_class(tmp_path):
    torch.save({"model": torch.nn.Linear(2, 3)}, tmp_path / "a.pth")
    message = r"is run: it has an object of torch\.nn\.modules\.linear\.Linear; save its state_dict\(\)$"
    with pytest.raises(ValueError, match=message):
        read_weights(tmp_path / "a.pth")


def test_parameters_under_a_key_that_is_not_known_are_told_with_the_keys(tmp_path):
    torch.save({"model_ema": STATE, "epoch": 3}, tmp_path / "a.pth")
    message = "by their names), but 'model_ema', 'epoch'; save the one that is meant by itself"
    with pytest.raises(ValueError, match=f"^it holds no parameters .*{re.escape(message)}$"):
        read_weights(tmp_path / "a.pth")


NO_NPZ = "it is no whole .npz of numbers: cut, or something else, or with objects, which are not run"


def test_a_cut_npz_and_one_that_is_an_array_are_told(tmp_path):
    np.savez(tmp_path / "whole.npz", x=np.ones(300, np.float32))
    (tmp_path / "cut.npz").write_bytes((tmp_path / "whole.npz").read_bytes()[:-200])
    with open(tmp_path / "array.npz", "wb") as file:
        np.save(file, np.ones(3))
    with pytest.raises(ValueError, match=f"^{NO_NPZ}$"):
        read_weights(tmp_path / "cut.npz")
    with pytest.raises(ValueError, match=r"^its name says \.npz, but its first bytes are not those of one$"):
        read_weights(tmp_path / "array.npz")


@pytest.mark.parametrize("name", ["a.npz", "a.pyth", "a.pth", "a.safetensors", "checkpoint"])
def test_a_web_page_is_told(name, tmp_path):
    (tmp_path / name).write_text("\n<!DOCTYPE html><html>Sign in</html>")
    message = "it is a web page, not weights; download the file that the page shows"
    with pytest.raises(ValueError, match=f"^{message}$"):
        read_weights(tmp_path / name)


def test_a_cut_file_of_torch_is_told_as_torchs_whatever_it_is_called(tmp_path):
    torch.save(STATE, tmp_path / "whole")
    (tmp_path / "cut").write_bytes((tmp_path / "whole").read_bytes()[:-200])
    with pytest.raises(ValueError, match=r"^it cannot be read as weights alone, and nothing else in a file is run: "):
        read_weights(tmp_path / "cut")


@pytest.mark.parametrize(
    ("text", "reason"),
    [("{'a'", "Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"), ("[1]", ".*")],
)
def test_settings_that_cannot_be_read_are_told_with_their_file(text, reason, tmp_path):
    save_file(STATE, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(text)
    message = re.escape(f"{tmp_path}/config.json beside it is no JSON of settings: ")
    reason = reason if reason == ".*" else re.escape(reason)
    with pytest.raises(ValueError, match=f"^{message}{reason}; mend or delete it$"):
        read_weights(tmp_path / "model.safetensors")


def test_a_file_that_would_run_code_is_not_read(tmp_path):
    class Harmful:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "harmed"),)

    torch.save({"model": Harmful()}, tmp_path / "bad.pth")
    with pytest.raises(ValueError, match=r"^it cannot be read as weights alone, and nothing else in a file is run: "):
        read_weights(tmp_path / "bad.pth")
    np.savez(tmp_path / "bad.npz", x=np.array([Harmful()], dtype=object))
    with pytest.raises(ValueError, match=f"^{NO_NPZ}$"):
        read_weights(tmp_path / "bad.npz")
    assert not (tmp_path / "harmed").exists()
