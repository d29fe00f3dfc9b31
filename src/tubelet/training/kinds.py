"""Whether a value is of the kind of those that conf/ lists in its place.

The examples of a key are its values in all files of conf/, and what they have in common is the rule: whole numbers,
three entries, a mapping with a `_target_`, nothing but positive numbers. Text may stand for anything.
"""

import math
from collections.abc import Sequence

WORDS = {bool: "true or false", int: "a whole number", float: "a number", list: "a list", dict: "a mapping"}


def unlike(value: object, examples: Sequence, signed: bool) -> tuple[object, str] | None:
    """(what in `value` is wrong, in which way), beside values that are right; None where nothing is known to be.

    signed: whether a number must also be positive where all examples are, or at least 0 where none is negative
    """
    alike = [example for example in examples if example not in (None, "???")]
    refers = isinstance(value, str) and value.startswith("${")  # to another key of the config
    if not alike or any(isinstance(one, str) for one in alike) or refers or (value is None and None in examples):
        return None
    kinds = {type(example) for example in alike}
    if float in kinds and type(value) is int:
        kinds.add(int)
    if type(value) not in kinds:
        return value, f"is not {' or '.join(words for kind, words in WORDS.items() if kind in kinds)}"
    alike = [example for example in alike if isinstance(example, list) == isinstance(value, list)]
    if isinstance(value, list):
        return _unlike_list(value, alike, signed)
    if signed and type(value) in (int, float):
        least = min(alike)
        if least > 0 and not 0 < value < math.inf:
            return value, "is not a positive number"
        if least == 0 and not 0 <= value < math.inf:
            return value, "is not a number of at least 0"
    return None


def _unlike_list(value: list, examples: list[list], signed: bool) -> tuple[object, str] | None:
    """A list that has one length wherever conf/ has it must have that length, and each entry is like its entries."""
    lengths = {len(example) for example in examples}
    if len(lengths) == 1 and lengths != {0} and len(value) not in lengths:
        return value, f"is not a list of {lengths.pop()} entries"
    if not value and 0 not in lengths:
        return value, "is empty"
    entries = [entry for example in examples for entry in example]
    return next((wrong for wrong in (unlike(entry, entries, signed) for entry in value) if wrong), None)


def shown(value: object) -> str:
    """As it is typed on a command line."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"[{','.join(map(shown, value))}]"
    if isinstance(value, dict):
        return f"{{{','.join(f'{key}:{shown(one)}' for key, one in value.items())}}}"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
