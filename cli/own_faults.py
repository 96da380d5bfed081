"""Errors that come out of a person's own program: theirs to mend, and no fault of ours."""

from __future__ import annotations

import linecache
import traceback


def fault_of_own(error: BaseException) -> str | None:
    """What to say of an error that a model or guide of a person's own raised.

    Args:
        error: What was raised, whoever raised it.

    Returns:
        The message, with the line; None if the error did not come out of such a file.
    """
    from ..data.program_lines import raising_line
    from ..inference.own_source import REMEMBERED

    frames = [(frame, n) for frame, n in traceback.walk_tb(error.__traceback__) if REMEMBERED in frame.f_globals]
    line = raising_line(error)
    if not frames or not line:
        return None
    frame, number = frames[-1]
    if isinstance(error, KeyError) and "covariates" in linecache.getline(frame.f_code.co_filename, number):
        name = error.args[0]
        return f"Expected covariate {name!r}, got none of that name{line}. Name its column of obs: --covariate {name}."
    said = next(iter(str(error).splitlines()), "")[:200].rstrip(".")  # Pyro appends the shapes of its trace
    return f"Expected a program that runs, got {type(error).__name__}: {said}{line}. Mend it."
