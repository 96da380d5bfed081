"""Variational families: one file, one family."""

from .amortized import AmortizedGuide, AmortizedNormal
from .amortized_flow import AmortizedFlow
from .amortized_full import AmortizedFullNormal
from .mean_field_normal import MeanFieldNormal
from .normal import NormalGuide
from .row_block_normal import RowBlockNormal

__all__ = [
    "AmortizedFlow",
    "AmortizedFullNormal",
    "AmortizedGuide",
    "AmortizedNormal",
    "MeanFieldNormal",
    "NormalGuide",
    "RowBlockNormal",
]
