"""The figures of a diagnosis as files: coverage by tenth, places of held-out entries in their predictives, k-hats."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

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
    names = []
    if found.calibration is not None:
        for name, draw in (("coverage.png", draw_tenths), ("pit.png", draw_pit)):
            with drawing(folder / name) as axes:
                draw(axes, found.calibration)
            names.append(name)
    if found.k_hats is not None and len(found.k_hats):
        with drawing(folder / "k_hat.png") as axes:
            draw_k_hats(axes, found.k_hats)
        names.append("k_hat.png")
    return names
