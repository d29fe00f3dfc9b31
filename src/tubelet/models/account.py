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
    """One name for the same parameter of all blocks, and one for a weight with its bias."""
    stars = dict.fromkeys(re.sub(r"\bblocks\.\d+\.", "blocks.*.", name) for name in names)
    stems = dict.fromkeys(re.sub(r"\.(weight|bias)$", "", name) for name in stars)
    return list(stems)
