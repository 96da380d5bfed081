"""Algorithms that fit a (model, guide) to data: one file, one algorithm."""

from . import coordinate_ascent, natural_gradient, svi
from .fitted import Fitted

__all__ = ["Fitted", "coordinate_ascent", "natural_gradient", "svi"]
