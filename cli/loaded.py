"""A run directory read by a command, its own source run only where a person says so."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from ..inference import Fitted


def load_run(run: Path, device: str, trust: bool) -> Fitted:
    """Read a fit, and say which source of a person's own is run to do so.

    Args:
        run: The run directory.
        device: Where to put model and guide.
        trust: Whether source that the run holds may be run.

    Raises:
        PlatewiseError: If the run cannot be read, or holds source that may not be run.
    """
    from ..data.errors import PlatewiseError
    from ..inference.run_directory import load, source_files

    files = source_files(run)
    if files and not trust:
        raise PlatewiseError(
            f"Expected --trust to read {run}, which holds source of its own that reading it runs, got none. Look at "
            f"{' and '.join(map(str, files))}, then say --trust."
        )
    for file in files:
        typer.echo(f"runs {file}, which the run holds", err=True)
    return load(run, device=device, trust_source=trust)


def trust_of(run: Path) -> tuple[str, ...]:
    """The option that the next command needs to read a run: `--trust` where it holds source of its own."""
    from ..inference.run_directory import source_files

    return ("--trust",) if source_files(run) else ()
