"""The program as it was called, so that the commands it prints can be run as they stand."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path


def command(*arguments: object) -> str:
    """A command line for a shell, beginning with this program as it was called.

    Args:
        *arguments: What follows the program's name.

    Returns:
        Say `platewise evaluate run`, or `.venv/bin/platewise evaluate run` where the program is not on the path.
    """
    return " ".join([_program(), *(shlex.quote(str(x)) for x in arguments)])


def _program() -> str:
    called = Path(sys.argv[0])
    if called.absolute() == Path(__file__).with_name("__main__.py"):
        return f"{shlex.quote(sys.executable)} -m platewise.cli"
    found = shutil.which("platewise")
    if called.stem != "platewise" or not called.is_file() or (found and called.samefile(found)):
        return "platewise"
    return shlex.quote(sys.argv[0])
