"""What the bytes of a packet tell without decoding: whether decoding can begin there, and that it shows one picture."""

from collections.abc import Iterator

IDR, SLICE = 5, 1  # H.264 unit types, ITU-T H.264 table 7-1
IRAP, LAST_SLICE = range(16, 22), 31  # H.265 unit types, ITU-T H.265 table 7-1: pictures that refer to none before them
VP8_SHOW_FRAME = 0x10  # bit of a packet's first byte, RFC 6386 section 9.1; clear in frames that are only referred to
VP9_SHOWN = 0x0A  # show_existing_frame and show_frame in the first byte, VP9 bitstream specification section 6.2
VP9_SEVERAL, VP9_INDEX = 0xE0, 0xC0  # marker in the last byte of a packet of several frames, one shown; its annex B
VOP, B_VOP = b"\x00\x00\x01\xb6", 2  # start of a picture of MPEG-4 part 2 and the type of B-frames, ISO/IEC 14496-2
EMPTY_VOP = 16  # bytes: a picture of MPEG-4 that only says "as the last one" is shorter


def starts_afresh(codec: str, extradata: bytes, data: bytes) -> bool:
    """Whether a key frame cuts all references of later pictures to those before it.

    In an open group of pictures of H.264 that is not proven. In one of H.265 it is so for all pictures shown after the
    key frame; those shown before it are left out when decoding begins there, and so never taken for others.
    """
    if codec == "h264":
        # Only the length-prefixed layout of mp4 and Matroska, which a first byte of 1 tells of, is looked into.
        width = (extradata[4] & 3) + 1 if len(extradata) > 4 and extradata[0] == 1 else 0
        kinds = (first & 31 for first in first_bytes(data, width))
        return next((kind for kind in kinds if kind in (IDR, SLICE)), SLICE) == IDR
    if codec == "hevc":
        width = (extradata[21] & 3) + 1 if len(extradata) > 21 and extradata[0] == 1 else 0
        kinds = (first >> 1 & 63 for first in first_bytes(data, width))
        return next((kind for kind in kinds if kind <= LAST_SLICE), 0) in IRAP
    return True


def first_bytes(data: bytes, width: int) -> Iterator[int]:
    """First byte of each unit; `width` bytes before a unit hold its length, 0 where that is not known."""
    at = 0
    while width and at + width < len(data):
        yield data[at + width]
        at += width + int.from_bytes(data[at : at + width], "big")


def shows_one(codec: str, data: bytes, num_pixels: int) -> bool:
    """Whether a packet shows exactly one picture, right when it is decoded; num_pixels: of one picture."""
    if codec == "vp8":
        return bool(data[0] & VP8_SHOW_FRAME)
    if codec == "vp9":
        return bool(data[0] & VP9_SHOWN) or data[-1] & VP9_SEVERAL == VP9_INDEX
    if codec == "mpeg4":
        at = data.find(VOP)
        alone = 0 <= at < len(data) - len(VOP) and data.find(VOP, at + 1) < 0
        # A bit for each block of 16 x 16 pixels is the least that a picture takes.
        return alone and data[at + len(VOP)] >> 6 != B_VOP and len(data) > max(num_pixels // 2048, EMPTY_VOP)
    return True
