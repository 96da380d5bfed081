"""The figures of a diagnosis as files: coverage, PITs of held-out and of left-out entries, k-hats, replications."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib.axes import Axes

from ..posterior.arviz_figures import draw_loo_k, draw_loo_pit, draw_replicated
from ..posterior.diagnosis_figures import draw_k_hats, draw_pit, draw_tenths
from .figures import drawing

if TYPE_CHECKING:
    from ..posterior.diagnostics import Diagnosis


def draw_diagnosis(found: Diagnosis, folder: Path) -> list[str]:
    """Draw what was found, each figure as a PNG.

    Args:
        found: The diagnosis.
        folder: Where to write.

    Returns:
        The names of the files.
    """
    figures: list[tuple[str, Callable[[Axes], None]]] = []
    if (judged := found.calibration) is not None:
        figures.append(("coverage.png", lambda axes: draw_tenths(axes, judged)))
        figures.append(("pit.png", lambda axes: draw_pit(axes, judged)))
    if (table := found.k_hats) is not None and len(table):
        figures.append(("k_hat.png", lambda axes: draw_k_hats(axes, table)))
    if (loo := found.loo) is not None:
        figures.append(("loo_pit.png", lambda axes: draw_loo_pit(axes, loo)))
        figures.append(("loo_k_hat.png", lambda axes: draw_loo_k(axes, loo)))
        figures.append(("replicated.png", lambda axes: draw_replicated(axes, loo)))
    for name, draw in figures:
        with drawing(folder / name) as axes:
            draw(axes)
    return [name for name, _ in figures]
