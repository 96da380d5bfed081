"""Variational families by name: `full`, `low-rank:4`, `flow+mean-field`, and guides from a person's own file."""

from __future__ import annotations

from typing import Any

from .own_file import is_own, made_from_file

LOCALS = {"mean-field": "MeanFieldNormal", "row-block": "RowBlockNormal"}
JOINT: dict[str, tuple[str, str | None]] = {  # one distribution of all globals; its whole number, if it has one
    "auto": ("AutoGuide", None),  # a joint normal, also of models without globals: for any
    "full": ("FullNormal", None),
    "low-rank": ("LowRankNormal", "rank"),
    "mixture": ("MixtureOfNormals", "components"),
    "flow": ("Flow", None),
}
AUTO = "auto"
NAMES = (*LOCALS, *(f"{name}[:K]" if number else name for name, (_, number) in JOINT.items()), "FILE.py:NAME")


def family(asked: str, **settings: Any) -> Any:
    """A guide by its name, which `require_family` has checked.

    Args:
        asked: The name.
        **settings: Arguments of a guide of `LOCALS`.
    """
    from .. import guides

    if is_own(asked):
        return made_from_file(asked, "guide")
    if asked in LOCALS:
        return getattr(guides, LOCALS[asked])(**settings)
    name, number, local = _parts(asked)
    made, takes = JOINT[name]
    arguments: dict[str, Any] = {takes: int(number)} if takes and number is not None else {}
    if local is not None:
        arguments["local"] = getattr(guides, LOCALS[local])()
    return getattr(guides, made)(**arguments)


def require_family(asked: str, model: str) -> None:
    """Check the name of a guide.

    Args:
        asked: One of `LOCALS` or `JOINT`; of the latter with `:K` and `+LOCAL` where that is wanted; or `FILE.py:NAME`.
        model: The model, for messages.

    Raises:
        PlatewiseError: If there is no such name, or a number is none.
    """
    if is_own(asked) or asked in LOCALS:
        return
    name, number, local = _parts(asked)
    _require_known(asked, name, local, model)
    if number is not None:
        _require_whole(asked, name, number)


def _parts(asked: str) -> tuple[str, str | None, str | None]:
    """Family, number and family of rows and columns, as far as they are there."""
    first, plus, local = asked.partition("+")
    name, colon, number = first.partition(":")
    return name, number if colon else None, local if plus else None


def _require_known(asked: str, name: str, local: str | None, model: str) -> None:
    from ..data.errors import PlatewiseError

    if name in LOCALS and local is not None:
        raise PlatewiseError(
            f"Expected a joint family ({', '.join(JOINT)}) before the plus of --guide, got {asked!r}. Say --guide "
            f"{name} alone, which is for all sites."
        )
    if name not in JOINT:
        raise PlatewiseError(
            f"Expected --guide to be one that this release has for --model {model} ({', '.join(NAMES)}), got "
            f"{asked!r}. Choose one."
        )
    if local is not None and local not in LOCALS:
        raise PlatewiseError(
            f"Expected {' or '.join(LOCALS)} after the plus of --guide, got {local!r}. Choose one for rows and columns."
        )


def _require_whole(asked: str, name: str, number: str) -> None:
    from ..data.errors import PlatewiseError

    takes = JOINT[name][1]
    if takes is None:
        raise PlatewiseError(f"Expected --guide {name} without a number, got {asked!r}. Leave it out.")
    if not (number.isascii() and number.isdecimal() and int(number) >= 1):
        raise PlatewiseError(
            f"Expected a whole number of 1 or more as the {takes} of --guide {name}, got {number!r}. Say, for example, "
            f"--guide {name}:2."
        )
