"""A census of videos in words, for the terminal."""

from collections.abc import Iterator, Mapping

from tubelet.video.census import Census, Copies
from tubelet.video.frames import SUFFIXES
from tubelet.video.open import EXACT_SEEK

SHOWN = 20  # of a kind named on the terminal; scan.json names all


def lines(census: Census) -> Iterator[str]:
    """What is wrong first says how much, then names it."""
    shortest, middle, longest = census.frames
    yield f"{census.num_videos} videos, {census.num_readable} can be read: {census.hours:.2f} hours"
    yield f"frames       {shortest} to {longest}, median {middle:g}"
    for name, kinds in (("codecs", census.codecs), ("sizes", census.sizes), ("fps", census.fps)):
        yield f"{name:13}{_tallied(kinds)}"
    if census.rotated:
        yield f"rotated      {census.rotated} turned as the file asks for"
    for reader, (exact, tried) in census.exact.items():
        yield f"{reader:13}random access exact in {exact} of {tried}{_refused(reader, census.codecs)}"
    for split, num_videos in census.num_listed.items():
        yield f"{split:13}{num_videos} videos{_balance(census.counts.get(split, {}))}"
    yield ""
    yield from _told("missing", census.missing)
    yield from _told("broken", [f"{one.path}: cannot {one.stage}: {one.reason}" for one in census.broken])
    yield from _told("damaged", [f"{path}: {what}" for path, what in census.damaged.items()])
    if census.clip_frames is not None:
        short = [f"{path}: {count}" for path, count in census.too_short.items()]
        yield from _told(f"shorter than the {census.clip_frames} frames of a clip", short)
    across = census.copies_across()
    yield from _told("copies across splits", [_group(one) for one in across])
    yield from _told("copies within a split", [_group(one) for one in census.copies if one not in across])
    yield from _told("copies with different labels", [_group(one) for one in census.contradictions()])
    if census.counts:
        wrong = [f"{path}: {what}" for path, what in census.wrong_labels.items()]
        yield from _told("wrong labels", wrong)
        for split, names in census.empty_classes().items():
            yield from _told(f"classes without a video in {split}", [_some(names)], len(names))


def _refused(reader: str, codecs: Mapping[str, int]) -> str:
    """Of a reader that an index can only forbid: in how many files it is not used, whatever was found in them."""
    if reader == "pyav_seek":
        return ""
    pairs = {"/".join(pair) for pair in EXACT_SEEK[reader]} | {f"frames/{kind[1:]}" for kind in SUFFIXES}
    num_files = sum(count for kind, count in codecs.items() if kind not in pairs)
    return f"; data.reader={reader} refuses {num_files}, of kinds in which it is not proven" if num_files else ""


def _told(what: str, named: list[str], count: int | None = None) -> Iterator[str]:
    yield f"{what}: {len(named) if count is None else count}"
    yield from (f"    {one}" for one in named[:SHOWN])
    if len(named) > SHOWN:
        yield f"    and {len(named) - SHOWN} more, named in scan.json"


def _tallied(kinds: Mapping[str, int]) -> str:
    return _some([f"{kind} ({count})" for kind, count in kinds.items()])


def _some(words: list[str]) -> str:
    return ", ".join(words[:8]) + (f" and {len(words) - 8} more" if len(words) > 8 else "")


def _balance(counts: Mapping[str, int]) -> str:
    filled = {name: count for name, count in counts.items() if count}
    if not filled:
        return ""
    large, small = max(filled, key=filled.__getitem__), min(filled, key=filled.__getitem__)
    ratio = f"largest : smallest {filled[large]} : {filled[small]} ({large}, {small})"
    return f" of {len(filled)} of {len(counts)} classes, {ratio}"


def _group(copies: Copies) -> str:
    classes = f"; labels {', '.join(copies.classes)}" if len(copies.classes) > 1 else ""
    return f"{' = '.join(copies.paths)} ({', '.join(copies.splits)}{classes})"
