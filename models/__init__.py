"""Generative programs: one file, one story."""

from .latent_factor import LatentFactor

__all__ = ["LatentFactor"]
