"""Where in a person's program a statement stands: what errors about sites and plates end in.

A line is told by the file's name, its number, and its text where Python has it:

    (my_model.py, line 23: `with pyro.plate("users", 40):`)
"""

from __future__ import annotations

import linecache
import re
import sys
import traceback
from collections.abc import Iterable
from types import CodeType, FrameType
from typing import Any

from pyro.poutine.messenger import Messenger

MACHINERY = {"pyro", "torch", "contextlib", "functools", "jaxtyping", "beartype"}
PROGRAMS = ("platewise.models.", "platewise.guides.")  # shown where no program of a person's own is in between
RUNNERS = ("platewise.inference.", "platewise.posterior.", "platewise.cli.", "platewise.testing.")
LONGEST = 60  # characters of a line that are shown


class ProgramLines(Messenger):
    """Records the line of every sample statement, parameter and plate of the programs that run inside it.

    Attributes:
        found: Line of each, by name; the first, where there are several.
    """

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, str] = {}

    def of(self, name: str) -> str:
        """The line of a site or plate, with a space before it; nothing where it is not known."""
        return self.found.get(name, "")

    def added_to(self, message: str) -> str:
        """A message with the line of the first site or plate that it names in quotes, unless it tells a line."""
        if ", line " in message:
            return message
        names = (name for name in re.findall(r"'([^']+)'", message) if self.of(name))
        line = next((self.of(name) for name in names), "")
        return f"{message} See{line}." if line else message

    def _pyro_sample(self, msg: Any) -> None:
        self.found.setdefault(msg["name"], calling_line())

    def _pyro_param(self, msg: Any) -> None:
        self.found.setdefault(msg["name"], calling_line())


def calling_line() -> str:
    """The line of the program that is running, with a space before it; nothing where there is none."""
    return _innermost((frame, frame.f_lineno) for frame in _outwards(sys._getframe(1)))


def raising_line(error: BaseException) -> str:
    """The line of the program that an error came from, with a space before it; nothing where there is none."""
    return _innermost(reversed(list(traceback.walk_tb(error.__traceback__))))


def line_of(code: CodeType) -> str:
    """The line where a function is defined, with a space before it."""
    return _told(code.co_filename, code.co_firstlineno)


def _innermost(frames: Iterable[tuple[FrameType, int]]) -> str:
    """The first line of a person's program, from the inside out; else the first of a model or guide of ours."""
    ours = ""
    for frame, number in frames:
        module = frame.f_globals.get("__name__", "")
        file = frame.f_code.co_filename
        if module.startswith(RUNNERS):  # what is further out started the program
            break
        if module.startswith("platewise."):
            ours = ours or (_told(file, number) if module.startswith(PROGRAMS) and _has_source(file) else "")
        elif module.partition(".")[0] not in MACHINERY and _has_source(file):
            return _told(file, number)
    return ours


def _outwards(frame: FrameType | None) -> Iterable[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def _has_source(file: str) -> bool:
    """Whether code was written: wrappers made on the fly have names like `<@beartype(...)>` instead of a file's."""
    return not file.startswith("<@")


def _told(file: str, number: int) -> str:
    text = linecache.getline(file, number).strip()
    text = f"{text[: LONGEST - 3]}..." if len(text) > LONGEST else text
    name = file.replace("\\", "/").rpartition("/")[2]
    return f" ({name}, line {number}: `{text}`)" if text else f" ({name}, line {number})"
