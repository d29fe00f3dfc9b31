"""Re-encoding all videos of a data set into another folder: in parallel, each file whole or absent, and resumable.

A file keeps its place below the root and its whole name, whatever its ending: annotations, lists and splits that are
made by names stay right, and decoders go by what a file holds. What is finished stands in a record, a JSON line a file.
"""

import json
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from tqdm import tqdm

from tubelet.video.alone import alone
from tubelet.video.encode import Encoded, Encoding, encode
from tubelet.video.guarded import Outcome, in_children
from tubelet.video.index import append_lines, state_of
from tubelet.video.reader import DecodeError
from tubelet.video.scan import seconds_for

RECORD = ".tubelet_transcode.jsonl"
ANNOTATIONS = {".txt", ".csv", ".json"}


@dataclass(frozen=True)
class Done:
    """A line of the record. path: below both roots; num_bytes, changed: of the source, as in the index."""

    path: str
    num_bytes: int
    changed: int
    encoding: Encoding
    num_frames: int
    new_bytes: int
    damaged: str


@dataclass(frozen=True)
class Whole:
    """A new file that has been read from start to end and waits under `partial` for its name."""

    partial: str
    done: Done


@dataclass(frozen=True)
class Unwritable:
    """The new file could not be written, so others will not be either."""

    reason: str


@dataclass(frozen=True)
class Reencode:
    """Work for a child process. Its parent names the new file, so that nothing is named after a parent was killed."""

    root: str
    out: str
    encoding: Encoding

    def __call__(self, source: str) -> Iterator[int | str | Whole | Unwritable]:
        """Gives how far it is, and at last what became of the file: as text, why it could not be read."""
        path = os.path.relpath(source, self.root)
        folder, name = os.path.split(os.path.join(self.out, path))
        partial = os.path.join(folder, f".{name}.{os.getpid()}.partial")  # hidden, so no reader takes it for a video
        try:
            state = state_of(source)
        except OSError as error:
            yield f"{source}: cannot open: {error.strerror}"
            return
        try:
            os.makedirs(folder, exist_ok=True)
            for found in encode(source, partial, self.encoding):
                if isinstance(found, Encoded):
                    done = Done(path, *state, self.encoding, found.num_frames, found.num_bytes, found.damaged)
                    yield Whole(partial, done)
                else:
                    yield found
        except DecodeError as error:
            Path(partial).unlink(missing_ok=True)
            yield str(error)
        except OSError as error:
            yield Unwritable(f"cannot write {error.filename or partial}: {error.strerror or error}")


def paths_below(root: str, out: str, paths: Sequence[str]) -> list[str]:
    """Absolute paths of the sources, each once. Raises ValueError where `out` is not a place of its own for them."""
    top, new = os.path.abspath(root), os.path.abspath(out)
    if os.path.commonpath((top, new)) in (top, new):
        raise ValueError(f"--out {out} and the videos in {root} must lie side by side, not one in the other")
    if os.path.isdir(new) and os.listdir(new) and not Path(new, RECORD).exists():
        raise ValueError(f"--out {out} holds files, and none of them is from tubelet transcode; name a new folder")
    found = list(dict.fromkeys(map(os.path.abspath, paths)))
    outside = next((path for path in found if not path.startswith(os.path.join(top, ""))), None)
    if outside is not None:
        raise ValueError(f"{outside} is not below {root}; name a folder that holds all videos: data.root=...")
    return found


def read_record(out: str) -> dict[str, Done]:
    """By path below the root; of two lines of one file the later. Raises ValueError at a line that is none."""
    file, found = Path(out, RECORD), {}
    lines = file.read_text(encoding="utf-8", errors="surrogateescape").split("\n") if file.exists() else [""]
    for number, line in enumerate(lines[:-1], start=1):  # what a kill has cut ends without a line end
        try:
            told = json.loads(line)
            found[told["path"]] = Done(**{**told, "encoding": Encoding(**told["encoding"])})
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(f"{file}:{number} is no line of this version; take a new folder for --out") from error
    return found


def finished(sources: Sequence[str], work: Reencode) -> dict[str, Done]:
    """Source -> its line in the record, of those that have not changed and were encoded alike, and are still there."""
    record = read_record(work.out)
    lines = {source: record.get(os.path.relpath(source, work.root)) for source in sources}
    return {source: done for source, done in lines.items() if done and _holds(source, done, work)}


def _holds(source: str, done: Done, work: Reencode) -> bool:
    try:
        new_bytes = os.stat(os.path.join(work.out, done.path)).st_size
        state = state_of(source)
    except OSError:
        return False
    return (*state, new_bytes, work.encoding) == (done.num_bytes, done.changed, done.new_bytes, done.encoding)


def transcode(
    sources: Sequence[str], work: Reencode, num_workers: int, seconds: float
) -> tuple[dict[str, Done], dict[str, str]]:
    """Re-encode what is not finished. Source -> its line in the record, and source -> why there is none.

    Raises OSError where files cannot be written, also since another process is writing there. However it ends, no file
    has its name that is not whole.
    """
    os.makedirs(work.out, exist_ok=True)
    told = f"another tubelet transcode is writing into {work.out}; wait for it, or name another folder with --out"
    with alone(Path(work.out, RECORD), told):
        return _transcode(sources, work, num_workers, seconds)


def _transcode(
    sources: Sequence[str], work: Reencode, num_workers: int, seconds: float
) -> tuple[dict[str, Done], dict[str, str]]:
    append_lines(Path(work.out, RECORD), [])
    _remove_partials(work.out)
    done, failed = finished(sources, work), {}
    waiting = [source for source in sources if source not in done]
    pause = 0.5 if sys.stderr.isatty() else 10.0  # seconds between two updates of the bar: a log file wants few
    outcomes = in_children(work, waiting, num_workers, partial(seconds_for, seconds=seconds))
    try:
        with tqdm(desc="re-encoding", total=len(sources), initial=len(done), mininterval=pause) as bar:
            for outcome in outcomes:
                line, reason = _put_in_place(outcome, work.out)
                if line is None:
                    failed[outcome.task] = reason
                else:
                    done[outcome.task] = line
                bar.update()
    finally:
        outcomes.close()  # ends the children, whose files are then nobody's
        _remove_partials(work.out)
    return done, failed


def _put_in_place(outcome: Outcome, out: str) -> tuple[Done | None, str]:
    path, found, failure = outcome
    if isinstance(found, Unwritable):
        raise OSError(found.reason)
    if failure or not isinstance(found, Whole):
        return None, f"{path}: cannot decode: {failure}" if failure else str(found)
    os.replace(found.partial, os.path.join(out, found.done.path))
    append_lines(Path(out, RECORD), [json.dumps(asdict(found.done), ensure_ascii=False) + "\n"])
    return found.done, ""


def _remove_partials(out: str) -> None:
    """What processes left that were killed."""
    for folder, _, names in os.walk(out):
        for name in names:
            if name.startswith(".") and name.endswith(".partial"):
                Path(folder, name).unlink(missing_ok=True)


def copy_annotations(root: str, out: str) -> list[str]:
    """Text files (txt, csv, json) in the root and in its folders, where readers look for them; returns their paths."""
    copied = []
    for folder in (Path(root), *sorted(path for path in Path(root).iterdir() if path.is_dir())):
        for file in sorted(folder.iterdir()) if not folder.name.startswith(".") else []:
            if file.suffix.lower() in ANNOTATIONS and file.is_file() and not file.name.startswith("."):
                path = file.relative_to(root)
                Path(out, path).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(file, Path(out, path))
                copied.append(str(path))
    return copied
