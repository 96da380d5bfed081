"""Genes that a person asks about, by name; a name that a fit lacks is answered with names like it."""

from __future__ import annotations

import difflib

import numpy as np
from jaxtyping import Int

from ..data.errors import PlatewiseError
from ..inference.fitted import Fitted
from .names import align, names_of


def chosen_genes(fitted: Fitted, genes: object) -> np.ndarray:
    """Names asked for, one or many, each once and in the order asked; all of the fit's if None."""
    asked = fitted.var.index if genes is None else names_of(genes)
    return np.array(list(dict.fromkeys(asked)), dtype=object)


def places_of(fitted: Fitted, names: np.ndarray) -> Int[np.ndarray, " k"]:
    """Positions of genes among those of a fit.

    Raises:
        PlatewiseError: If there is none, or the fit does not know one; it is named, with names like it.
    """
    of, found = fitted.meaning["col_name"], align(names, fitted.var.index)
    if not len(names):
        raise PlatewiseError(f"Expected a {of} at least, got none. Name some, or leave the choice out for all.")
    if found.new:
        name = names[~found.known][0]
        raise PlatewiseError(f"Expected {of}s that the fit knows, got {name!r}. {_remedy(name, fitted)}")
    return found.code


def _remedy(name: str, fitted: Fitted) -> str:
    """What to do about an unknown name: names like it, whatever their case."""
    known = {str(x).lower(): str(x) for x in fitted.var.index}
    close = [known[x] for x in difflib.get_close_matches(name.lower(), list(known), n=3)]
    return f"Did you mean {' or '.join(close)}?" if close else "Choose among the names of the fit."
