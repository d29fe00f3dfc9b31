"""What became of every published parameter, and of every parameter of the model that is started from them."""

import re
from dataclasses import dataclass, field


@dataclass
class Account:
    """loaded: parameters as they were; resized, new: what was done -> their names; unused: why -> theirs, left out."""

    layout: str
    loaded: list[str] = field(default_factory=list)
    resized: dict[str, list[str]] = field(default_factory=dict)
    new: dict[str, list[str]] = field(default_factory=dict)
    unused: dict[str, list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def note(self, kind: dict[str, list[str]], reason: str, name: str) -> None:
        kind.setdefault(reason, []).append(name)

    def lines(self) -> list[str]:
        """For people: a line for all that was loaded, and one for each thing that was done."""
        told = [f"loaded   {len(self.loaded)} parameters of {self.layout}"]
        for word, kind in (("resized", self.resized), ("new", self.new), ("unused", self.unused)):
            told += [f"{word:<8} {', '.join(grouped(names))}: {reason}" for reason, names in kind.items()]
        return told + [f"note     {note}" for note in self.notes]

    def record(self) -> dict:
        """For metrics.json."""
        kinds = {word: getattr(self, word) for word in ("resized", "new", "unused")}
        told = {word: {r: grouped(names) for r, names in kind.items()} for word, kind in kinds.items()}
        return {"layout": self.layout, "loaded": len(self.loaded), **told, "notes": self.notes}


def grouped(names: list[str]) -> list[str]:
    """One name for the same parameter of many blocks, with their numbers, and one for a weight with its bias."""
    numbers: dict[str, list[int]] = {}
    for name in names:
        stem = re.sub(r"\.(weight|bias)$", "", name)
        found = re.search(r"\bblocks\.(\d+)\.", stem)
        of_stem = numbers.setdefault(re.sub(r"\bblocks\.\d+\.", "blocks.*.", stem), [])
        of_stem += [int(found[1])] if found and int(found[1]) not in of_stem else []
    return [stem.replace("*", _numbers(sorted(blocks))) for stem, blocks in numbers.items()]


def _numbers(blocks: list[int]) -> str:
    """[0, 1, 2] -> 0-2; [0, 2] -> 0+2."""
    if len(blocks) > 1 and blocks == list(range(blocks[0], blocks[-1] + 1)):
        return f"{blocks[0]}-{blocks[-1]}"
    return "+".join(map(str, blocks))
