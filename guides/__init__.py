"""Variational families: one file, one family."""

from .amortized import AmortizedNormal
from .mean_field_normal import MeanFieldNormal
from .normal import NormalGuide
from .row_block_normal import RowBlockNormal

__all__ = ["AmortizedNormal", "MeanFieldNormal", "NormalGuide", "RowBlockNormal"]
