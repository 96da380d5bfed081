"""Algorithms that fit a (model, guide) to data: one file, one algorithm."""

from . import svi
from .fitted import Fitted

__all__ = ["Fitted", "svi"]
