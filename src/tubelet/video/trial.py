"""Whether re-encoding would pay, measured on some videos: the CPU time of loading a training clip, before and after."""

import os
import random
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

from torch import Generator, Tensor

from tubelet.video.encode import Encoded, Encoding, encode
from tubelet.video.guarded import in_children
from tubelet.video.index import Known
from tubelet.video.open import ReadOptions, read_clips
from tubelet.video.reader import DecodeError
from tubelet.video.sampling import NoFrameRate, Sampling
from tubelet.video.scan import seconds_for

NUM_VIDEOS, NUM_CLIPS = 12, 6  # looked at; read from each
PAYS = 1.3  # times as fast: below that the gain is lost in the noise of a training run, and pixels are lost for it


@dataclass(frozen=True)
class Sampled:
    """One video before and after: seconds of CPU for a clip, bytes; and the seconds that encoding it took."""

    path: str
    seconds_before: float
    seconds_after: float
    bytes_before: int
    bytes_after: int
    encoding_seconds: float

    @property
    def factor(self) -> float:
        return self.seconds_before / self.seconds_after


@dataclass(frozen=True)
class Measured:
    """What a sample says; unreadable: path -> why, of the videos that gave nothing."""

    videos: tuple[Sampled, ...]
    unreadable: dict[str, str]

    @property
    def seconds(self) -> tuple[float, float]:
        """Of CPU for a clip, before and after, as a mean over the videos."""
        before, after = ([getattr(one, f"seconds_{when}") for one in self.videos] for when in ("before", "after"))
        return statistics.mean(before), statistics.mean(after)

    @property
    def num_bytes(self) -> tuple[float, float]:
        """Of a video, before and after."""
        before, after = ([getattr(one, f"bytes_{when}") for one in self.videos] for when in ("before", "after"))
        return statistics.mean(before), statistics.mean(after)

    @property
    def encoding_seconds(self) -> float:
        """Of CPU for a video."""
        return statistics.mean(one.encoding_seconds for one in self.videos)

    @property
    def factor(self) -> float:
        """How many times as fast loading gets, as a whole."""
        return self.seconds[0] / self.seconds[1]

    @property
    def pays(self) -> bool:
        return self.factor >= PAYS


@dataclass(frozen=True)
class ReadBoth:
    """Work for a child process: encode a video into `folder`, then read the same clips of both by turns.

    sampling, reader, options: as in training
    known: what the index says of the videos by their paths; of the new files it cannot know
    """

    folder: str
    encoding: Encoding
    sampling: Sampling
    reader: str
    known: Mapping[str, Known | None]
    options: ReadOptions

    def __call__(self, path: str) -> Iterator[int | str | Sampled]:
        """Gives how far it is, and at last what was measured, or, as text, why nothing could be."""
        target = os.path.join(self.folder, f"{os.getpid()}.mp4")
        try:
            for found in encode(path, target, self.encoding):
                yield found if isinstance(found, int) else found.num_frames
            assert isinstance(found, Encoded)
            spent = [0.0, 0.0]
            for clip in range(-1, NUM_CLIPS):
                for place, file in enumerate((path, target)):
                    seconds = self._seconds(file, clip)
                    spent[place] += seconds if clip >= 0 else 0.0  # the first read pays for what is set up once
                yield clip
            sizes = os.path.getsize(path), found.num_bytes
            yield Sampled(path, spent[0] / NUM_CLIPS, spent[1] / NUM_CLIPS, *sizes, found.seconds)
        except (DecodeError, NoFrameRate, OSError) as error:
            yield str(error)

    def _seconds(self, file: str, clip: int) -> float:
        """Of CPU, of all threads; a clip of a number begins at the same frame in both files."""
        generator = Generator().manual_seed(clip + 1)

        def choose(num_frames: int, fps: float) -> Tensor:
            return self.sampling.random_clip(num_frames, fps, generator)[None]  # (1, T)

        begun = time.process_time()
        read_clips(file, choose, self.reader, self.known.get(file), self.options)
        return time.process_time() - begun


def spread(paths: Sequence[str], most: int, seed: int = 0) -> list[str]:
    """Up to `most` paths, one drawn from each of as many equal parts of the list in the order of the alphabet."""
    ordered, number, generator = sorted(set(paths)), min(most, len(set(paths))), random.Random(seed)
    borders = [k * len(ordered) // number for k in range(number + 1)] if number else []
    return [ordered[generator.randrange(a, b)] for a, b in pairwise(borders)]


def measure(paths: Sequence[str], work: ReadBoth, num_workers: int, seconds: float) -> Measured:
    """Of a sample of the paths. seconds: as for `scan.update_index`. Raises ValueError where none can be measured."""
    videos, unreadable = [], {}
    limit = partial(seconds_for, seconds=seconds)
    for path, found, failure in in_children(work, spread(paths, NUM_VIDEOS), num_workers, limit):
        if isinstance(found, Sampled) and not failure:
            videos.append(found)
        else:
            unreadable[path] = failure or str(found)
    if not videos:
        raise ValueError(f"none of {len(unreadable)} videos could be measured: {next(iter(unreadable.values()))}")
    return Measured(tuple(sorted(videos, key=lambda one: one.path)), unreadable)
