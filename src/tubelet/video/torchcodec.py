"""The only file that imports torchcodec, an extra: pip install 'tubelet[torchcodec]', and FFmpeg on the machine."""

from collections.abc import Sequence
from importlib import metadata
from typing import Any

from torch import Tensor

from tubelet.video.reader import DecodeError, Reader, check_indices
from tubelet.video.scaling import scale


def decoder_class() -> Any:
    """torchcodec's VideoDecoder. Raises ValueError where it cannot be imported."""
    try:
        from torchcodec.decoders import VideoDecoder
    except (ImportError, OSError, RuntimeError) as error:  # without FFmpeg or with another torch it is a RuntimeError
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ValueError(
            "data.reader=torchcodec needs pip install 'tubelet[torchcodec]', a build for this version of torch, and "
            f"the shared libraries of FFmpeg 4 to 8 (apt install ffmpeg): {reason}"
        ) from error
    return VideoDecoder


def torchcodec_version() -> str | None:
    """Not that of FFmpeg, which it does not tell without being loaded; None where it is not installed."""
    try:
        return f"torchcodec {metadata.version('torchcodec')}"
    except metadata.PackageNotFoundError:
        return None


class TorchcodecReader(Reader):
    """torchcodec in its exact mode, which looks at all packets first, with one thread."""

    name = "torchcodec"

    def __init__(self, path: str, fps: float, short_side: int | None = None):
        decoder = decoder_class()
        self._path, self._short_side, self.fps = path, short_side, fps
        try:
            self._video = decoder(path, seek_mode="exact", num_ffmpeg_threads=1)
            self.num_frames = len(self._video)
        except (RuntimeError, ValueError) as error:
            raise DecodeError(path, "open", _reason(error)) from error

    def read(self, indices: Sequence[int]) -> Tensor:
        """Frame numbers -> uint8 RGB (T, C, H, W)."""
        check_indices(self._path, indices, self.num_frames)
        try:
            frames = self._video.get_frames_at([int(i) for i in indices]).data
        except (RuntimeError, ValueError) as error:
            raise DecodeError(self._path, "decode", _reason(error)) from error
        return scale(frames, self._short_side)

    def close(self) -> None:
        self._video = None


def _reason(error: Exception) -> str:
    return str(error).strip().split("\n")[0]
