"""What the world hands us, as AnnData, and mini-batches of its rows."""

import pyro

from .batches import RowBatch
from .cells import read_cells
from .container import col_ids, make_ratings, row_ids
from .errors import PlatewiseError
from .ids import as_name, original_ids
from .loader import RowLoader
from .meaning import mark, meaning, require_unstored
from .normalise import log_normalise
from .published import download
from .ratings import read_ratings
from .simulate import simulate_ratings
from .source import Source, source_of
from .split import split_entries
from .storage import fingerprint, read_h5ad, write_h5ad
from .variable_genes import variable_genes

# No global parameter store: several fits live in one process. Here, so that it holds before any model is made.
pyro.settings.set(module_local_params=True)

__all__ = [
    "PlatewiseError",
    "RowBatch",
    "RowLoader",
    "Source",
    "as_name",
    "col_ids",
    "download",
    "fingerprint",
    "log_normalise",
    "make_ratings",
    "mark",
    "meaning",
    "original_ids",
    "read_cells",
    "read_h5ad",
    "read_ratings",
    "require_unstored",
    "row_ids",
    "simulate_ratings",
    "source_of",
    "split_entries",
    "variable_genes",
    "write_h5ad",
]
