"""What happens once, before a command works: threads, and notices on standard error."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import typer


def start(threads: int | None = None) -> None:
    """Set thread counts and let the library's notices through.

    More runnable threads than cores make every step 10 to 100 times slower, so counts are set here and nowhere else.

    Args:
        threads: Threads to compute with. If not given, `OMP_NUM_THREADS` or the cores this process may use.

    Raises:
        PlatewiseError: If the number is below 1.
    """
    if threads is not None:
        _require_positive(threads)
        os.environ["OMP_NUM_THREADS"] = str(threads)  # read once, when torch is imported
    # what waits must soon sleep: torch's threads would else spin on cores on which compiled code could run
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    import torch

    torch.set_num_threads(threads or min(torch.get_num_threads(), _cores()))
    torch.set_flush_denormal(True)
    _show_notices()


def _require_positive(threads: int) -> None:
    from ..data.errors import PlatewiseError

    if threads < 1:
        raise PlatewiseError(f"Expected at least 1 thread, got {threads}. Leave --threads out for all cores.")


def _cores() -> int:
    """Cores that this process may use: a container's share is less than what the machine has."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return cores
    return cores if quota == "max" else max(1, min(cores, int(quota) // int(period)))


class _Notices(logging.Handler):
    """Prints to the standard error of the moment."""

    def emit(self, record: logging.LogRecord) -> None:
        typer.echo(self.format(record), err=True)


def _show_notices() -> None:
    logger = logging.getLogger("platewise")
    if not any(isinstance(handler, _Notices) for handler in logger.handlers):
        logger.addHandler(_Notices())
    logger.setLevel(logging.INFO)
