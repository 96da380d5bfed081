"""A guide for any model, found from a trace: what is drawn once for all rows, jointly; the rest block by block.

    q(latents) = Normal_d(globals; m, L L') prod over rows and columns of Normal(block; m_i, L_i L_i')

Either part may be missing in a model. Which dependences that leaves out is plain: those between a global and a row, and
those between rows.
"""

from __future__ import annotations

from typing import ClassVar

from .full_normal import FullNormal


class AutoGuide(FullNormal):
    """`FullNormal` beside `RowBlockNormal` (or `local=`), also for models without globals."""

    may_be_empty: ClassVar[bool] = True
