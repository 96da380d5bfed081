"""Algorithms that fit a (model, guide) to data: one file, one algorithm."""

import pyro

from . import svi
from .fitted import Fitted

pyro.settings.set(module_local_params=True)  # no global parameter store: several fits live in one process

__all__ = ["Fitted", "svi"]
