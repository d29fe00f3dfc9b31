"""From a file of weights to what it is: its layout is told by the names of its parameters, which are then made ours."""

import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace

from torch import Tensor

from tubelet.weights.layouts import LAYOUTS, Layout
from tubelet.weights.renames import State
from tubelet.weights.source import PATCHES, Source


def understand(state: Mapping[str, Tensor]) -> Source:
    """{published name: tensor} -> the weights under our names. Raises ValueError for a layout that is not known."""
    bare = without_prefix(state)
    for names in (bare, *_without_common_words(bare)):
        for layout in LAYOUTS:
            if layout.fits(names):
                return replace(layout.convert(names), layout=layout.name, models=layout.models)
    raise ValueError(_unknown(bare))


def _without_common_words(state: State) -> Iterator[State]:
    """Without the first word that all names share, then without the next: of a module that holds the model."""
    while len({name.partition(".")[0] for name in state}) == 1 and all("." in name for name in state):
        state = {name.partition(".")[2]: value for name, value in state.items()}
        yield state


def _unknown(state: Mapping[str, Tensor]) -> str:
    """The nearest known layout in words: the one with most of its marks among the names, or with the likest names."""

    def likeness(layout: Layout) -> tuple[float, int]:
        marks = [mark.replace("\\", "") for mark in layout.marks]
        best = [max((alike(mark, name) for name in names), default=0.0) for mark in marks]
        return sum(best) / len(best), len(best)

    def alike(mark: str, name: str) -> float:
        return 1.0 if name.endswith(mark) else difflib.SequenceMatcher(None, mark, name).ratio()

    names = sorted({re.sub(r"\d+", "0", name) for name in state})[:200]

    nearest = max(LAYOUTS, key=likeness)
    first = next(iter(state), None)
    missing = [mark for mark in nearest.marks if not any(re.fullmatch(mark, name) for name in state)]
    unwanted = [mark for mark in nearest.absent if any(re.fullmatch(mark, name) for name in state)]
    if missing:
        lacks = f", which has {missing[0]}".replace("\\", "")
    elif unwanted:
        lacks = f", which has no {unwanted[0]}".replace("\\", "")
    else:
        lacks = f", whose {PATCHES} has {nearest.patch_axes} axes"
    return (
        f"the layout of its {len(state)} parameters, the first of them {first!r}, is not known; "
        f"the nearest that is: {nearest.name}{lacks}"
    )


def without_prefix(state: Mapping[str, Tensor]) -> State:
    """Without what wrappers put in front of every name, and of scenic's checkpoints the model alone."""
    names = dict(state)
    for prefix in ("module.", "_orig_mod."):
        if names and all(name.startswith(prefix) for name in names):
            names = {name.removeprefix(prefix): value for name, value in names.items()}
    patches = [name for name in names if re.fullmatch(r"(.*/)?embedding/kernel", name)]
    if len(patches) == 1:  # the optimiser's state has names that end otherwise
        prefix = patches[0].removesuffix("embedding/kernel")
        return {name.removeprefix(prefix): value for name, value in names.items() if name.startswith(prefix)}
    return names
