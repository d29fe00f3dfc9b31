"""Reading flax's checkpoints, which are msgpack (the specification at https://msgpack.org) with numpy's arrays in it.

Only what flax writes: maps, lists, text, bytes, numbers, and its extension 1, an array of (shape, dtype, bytes). An
array of more than a gigabyte is a map of chunks. Nothing else is understood, and nothing in a file can run code.
"""

import math
import struct
from typing import Any

import numpy as np

ARRAY, COMPLEX, SCALAR = 1, 2, 3  # flax.serialization's extension types
CHUNKED = "__msgpack_chunked_array__"
# first byte -> what follows: a number as struct knows it, or the width of a length
NUMBERS = {0xCA: ">f", 0xCB: ">d", 0xCC: ">B", 0xCD: ">H", 0xCE: ">I", 0xCF: ">Q"}
NUMBERS |= {0xD0: ">b", 0xD1: ">h", 0xD2: ">i", 0xD3: ">q"}
CONSTANTS = {0xC0: None, 0xC2: False, 0xC3: True}
LENGTHS = {1: ">B", 2: ">H", 4: ">I"}
BYTES = {0xC4: 1, 0xC5: 2, 0xC6: 4}
TEXT = {0xD9: 1, 0xDA: 2, 0xDB: 4}
LISTS = {0xDC: 2, 0xDD: 4}
MAPS = {0xDE: 2, 0xDF: 4}
EXTENSIONS = {0xC7: 1, 0xC8: 2, 0xC9: 4}
FIXED_EXTENSIONS = {0xD4: 1, 0xD5: 2, 0xD6: 4, 0xD7: 8, 0xD8: 16}


def unpack(data: bytes) -> Any:
    """The object in `data`, arrays as numpy's. Raises ValueError where the bytes are not msgpack as flax writes it."""
    reader = Reader(data)
    try:
        value = reader.value()
    except (struct.error, UnicodeDecodeError, TypeError, RecursionError) as error:
        raise ValueError(f"its bytes are no msgpack: {error}") from error
    if reader.at != len(data):
        raise ValueError(f"its bytes are no msgpack: {len(data) - reader.at} are left over")
    return value


class Reader:
    """A place in the bytes; `value` reads one object and moves on."""

    def __init__(self, data: bytes):
        self.data, self.at = memoryview(data), 0

    def value(self) -> Any:
        first = self.number(">B")
        if first < 0x80:
            return first
        if first >= 0xE0:
            return first - 256
        if first < 0x90:
            return self.map(first & 0x0F)
        if first < 0xA0:
            return [self.value() for _ in range(first & 0x0F)]
        if first < 0xC0:
            return str(self.take(first & 0x1F), "utf-8")
        return self.long(first)

    def long(self, first: int) -> Any:
        """An object whose first byte is a type of its own."""
        if first in CONSTANTS:
            return CONSTANTS[first]
        if first in NUMBERS:
            return self.number(NUMBERS[first])
        if first in BYTES:
            return bytes(self.take(self.length(BYTES[first])))
        if first in TEXT:
            return str(self.take(self.length(TEXT[first])), "utf-8")
        if first in LISTS:
            return [self.value() for _ in range(self.length(LISTS[first]))]
        if first in MAPS:
            return self.map(self.length(MAPS[first]))
        if first in EXTENSIONS or first in FIXED_EXTENSIONS:
            size = FIXED_EXTENSIONS[first] if first in FIXED_EXTENSIONS else self.length(EXTENSIONS[first])
            kind = self.number(">b")
            return extension(kind, self.take(size))
        raise ValueError(f"its bytes are no msgpack: {first:#x} begins nothing")

    def map(self, size: int) -> Any:
        content = {self.value(): self.value() for _ in range(size)}
        return joined(content) if CHUNKED in content else content

    def number(self, form: str) -> Any:
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def length(self, width: int) -> int:
        return self.number(LENGTHS[width])

    def take(self, size: int) -> memoryview:
        if self.at + size > len(self.data):
            raise ValueError(f"it ends after {len(self.data)} bytes, within an object: the file is cut")
        self.at += size
        return self.data[self.at - size : self.at]


def extension(kind: int, content: memoryview) -> Any:
    """An array, or a number that numpy keeps as one."""
    if kind == COMPLEX:
        raise ValueError("it holds complex numbers, which no model has")
    if kind not in (ARRAY, SCALAR):
        raise ValueError(f"it holds an object of msgpack's extension {kind}, which flax does not write")
    shape, dtype, data = Reader(bytes(content)).value()
    name = dtype.decode() if isinstance(dtype, bytes) else dtype
    if name == "bfloat16":  # numpy has none: the upper half of a float32
        wide = np.frombuffer(data, dtype=np.uint16).astype(np.uint32) << 16
        return wide.view(np.float32).reshape(shape)
    if np.dtype(name).hasobject or len(data) != np.dtype(name).itemsize * math.prod(shape):
        raise ValueError(f"it holds an array of {name} {tuple(shape)} in {len(data)} bytes")
    return np.frombuffer(data, dtype=name).reshape(shape)


def joined(content: dict) -> np.ndarray:
    """An array that flax has cut into chunks."""
    shape, chunks = ([part[str(i)] for i in range(len(part))] for part in (content["shape"], content["chunks"]))
    return np.concatenate(chunks).reshape(shape)
