"""Models and guides named as `FILE.py:NAME`, and their arguments as `--set NAME=VALUE`."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from torch import nn

SUFFIX = ".py"


def is_own(name: str) -> bool:
    """Whether a name on the command line is one in a file of Python, `FILE.py:NAME`, and none of ours."""
    return name.endswith(SUFFIX) or f"{SUFFIX}:" in name


def made_from_file(asked: str, kind: Literal["model", "guide"], given: Iterable[str] = ()) -> nn.Module:
    """A model or guide of a person's own.

    Args:
        asked: `FILE.py:NAME`. A model's name is a class, or a plain function of the batch; a guide's a class or
            function to be called without arguments.
        kind: What it is to be.
        given: Arguments of a class, each as `NAME=VALUE`; values are read as JSON, or else as text.

    Raises:
        PlatewiseError: In one line, if there is no such name, the file does not run, or the arguments do not fit.
    """
    from ..inference.own_source import run_file
    from ..inference.rebuild import make

    place, _, name = asked.rpartition(":") if not asked.endswith(SUFFIX) else (asked, "", "")
    called = _named(run_file(Path(place)), name, kind, place)
    settings = parsed(given)
    _require_taken(called, settings, kind)
    return make(called, kind, settings)


def parsed(given: Iterable[str]) -> dict[str, Any]:
    """Settings from `NAME=VALUE`: 3, 0.5, true, [1, 2] and "text" are read as JSON, all else is text as it stands.

    Raises:
        PlatewiseError: If one has no name, or one name is given twice.
    """
    from ..data.errors import PlatewiseError

    settings: dict[str, Any] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier():
            raise PlatewiseError(f"Expected --set NAME=VALUE, got {text!r}. Say, for example, --set rank=8.")
        if name in settings:
            raise PlatewiseError(f"Expected each --set once, got {name} twice. Leave one out.")
        settings[name] = _value(value)
    return settings


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _named(module: ModuleType, name: str, kind: str, place: str) -> Any:
    from ..data.errors import PlatewiseError

    found = getattr(module, name, None)
    if not (inspect.isclass(found) or inspect.isroutine(found)):
        names, got = ", ".join(_candidates(module)) or "none", repr(name) if name else "no name"
        raise PlatewiseError(
            f"Expected --{kind} {place}:NAME with a class or function of that file ({names}), got {got}. Choose one."
        )
    return found


def _candidates(module: ModuleType) -> list[str]:
    """Names that a file itself gives to classes of modules, and to functions."""
    from torch import nn

    own = {name: x for name, x in vars(module).items() if getattr(x, "__module__", "") == module.__name__}
    modules = [name for name, x in own.items() if inspect.isclass(x) and issubclass(x, nn.Module)]
    functions = [name for name, x in own.items() if inspect.isfunction(x) and not name.startswith("_")]
    return modules + functions


def _require_taken(called: Any, settings: Mapping[str, Any], kind: str) -> None:
    """Check arguments against the signature, before anything is run."""
    from ..data.errors import PlatewiseError

    name = called.__name__
    if kind == "model" and inspect.isroutine(called):
        if settings:
            raise PlatewiseError(
                f"Expected no --set for {name}, a plain function of the batch, got {next(iter(settings))}. Make it a "
                "class to give it settings."
            )
        return
    taken = inspect.signature(called)
    try:
        taken.bind(**settings)
    except TypeError as error:
        needed = f"a {kind} that is made without arguments" if kind == "guide" else "--set with arguments of the class"
        raise PlatewiseError(
            f"Expected {needed}; {name} takes {taken}, got: {error}. "
            + ("Give them defaults." if kind == "guide" else "Say --set NAME=VALUE for those it takes.")
        ) from error
