"""A test class that names a model and a guide, and makes new ones for each test."""

from __future__ import annotations

from inspect import Parameter, isroutine, signature
from typing import Any, ClassVar, Literal

from torch import nn

from ..data.errors import PlatewiseError

Part = Literal["model", "guide"]


class _Collected:
    """`__test__` as pytest asks for it: False for a class that lacks a part, and for others not there."""

    def __get__(self, instance: Any, owner: Any) -> bool:
        if owner.lacks("model") or owner.lacks("guide"):
            return False
        raise AttributeError("__test__")


class NamedParts:
    """The base of tests of a model and a guide. Pytest finds none in a class that lacks one of them.

    Attributes:
        model: What makes a new model when called without arguments: a class, say. A plain function of a batch is
            itself the model.
        guide: What makes a new guide when called without arguments.
    """

    __test__ = _Collected()
    model: ClassVar[Any] = None
    guide: ClassVar[Any] = None

    def make_model(self) -> Any:
        """A new model."""
        return self._made("model")

    def make_guide(self) -> Any:
        """A new guide."""
        return self._made("guide")

    @classmethod
    def lacks(cls, part: Part) -> bool:
        """Whether a class neither names a part nor says how to make it."""
        make = f"make_{part}"
        return getattr(cls, part) is None and getattr(cls, make) is getattr(NamedParts, make)

    def _made(self, part: Part) -> Any:
        make = getattr(type(self), part)  # of the class: a function stays one, and does not become a method
        if isinstance(make, nn.Module) or not callable(make):
            got = "none" if make is None else f"{type(make).__name__}, which is made already"
            raise PlatewiseError(
                f"Expected {part} in {type(self).__name__} to make a new one for each test, got {got}. Set {part} = "
                f"My{part.title()}, the class, or a function without arguments."
            )
        return make if part == "model" and _takes_a_batch(make) else make()


def _takes_a_batch(make: Any) -> bool:
    needed = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
    return isroutine(make) and any(
        x.default is Parameter.empty and x.kind in needed for x in signature(make).parameters.values()
    )
