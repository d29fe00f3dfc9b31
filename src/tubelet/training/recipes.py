"""Which recipe a run follows: that of its model and data, unless the command line or an experiment names another.

Hydra's own pattern for this, `optional recipe: ${model}_${data}`, resolves such a name when all groups are settled, and
so refuses a file chosen by it that chooses in turn (`override /optim: sgd`), as every recipe does. Here the groups are
settled twice: once to learn model and data, and once more with the name of their recipe in the place of `auto`.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from hydra._internal import config_loader_impl
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override

AUTO, NONE = "auto", "none"
GROUPS = ("optim", "augment", "views")  # that a recipe chooses
_settle = config_loader_impl.create_defaults_list


@contextmanager
def recipes_chosen() -> Iterator[None]:
    """While it lasts, Hydra takes the recipe of model and data for `recipe=auto`, in each job of a sweep for itself."""
    with patch.object(config_loader_impl, "create_defaults_list", _settle_with_recipe):
        yield


def _settle_with_recipe(repo: Any, config_name: str, overrides_list: Sequence[Override], **rest: Any) -> Any:
    given = [_named(NONE) if _is_null(override) else override for override in overrides_list]
    settled = _settle(repo=repo, config_name=config_name, overrides_list=given, **rest)
    choices = settled.overrides.known_choices
    name = f"{choices.get('model')}_{choices.get('data')}"
    if choices.get("recipe") != AUTO or not repo.config_exists(f"recipe/{name}"):
        return settled
    others = [override for override in given if override.key_or_group != "recipe"]
    return _settle(repo=repo, config_name=config_name, overrides_list=[*others, _named(name)], **rest)


def _named(recipe: str) -> Override:
    return OverridesParser.create().parse_override(f"recipe={recipe}")


def _is_null(override: Override) -> bool:
    """`recipe=null`, which Hydra takes for no choice of a group."""
    return override.key_or_group == "recipe" and override.value() is None and not override.is_delete()


def told(follows: str | None, choices: dict[str, str]) -> str:
    """One line: the recipe taken, or that there is none, and what the run has instead.

    follows: the key of the config; choices: of all groups
    """
    if follows:
        return f"recipe: {follows}"
    taken = ", ".join(f"{group}={choices.get(group)}" for group in GROUPS)
    pair = f" for {choices.get('model')} and {choices.get('data')}" if choices.get("recipe") == AUTO else ""
    return f"recipe: none{pair}; the defaults: {taken}"
