"""Joint draws of latents and entries: from the guide where the fit knows a row or column, from the prior elsewhere.

The one mechanism for ids that a fit has never seen, and for any model of the contract: the guide is run, what it drew
is replayed in the model, and sites in the plate of what is new are left out of the replay, so that the model draws
them itself, given everything else.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pyro import poutine
from pyro.distributions import Independent
from pyro.poutine.trace_struct import Trace

from ..data.errors import PlatewiseError
from ..data.sites import latent_sites, observed_sites, plate_of
from ..models.row_likelihood import RowLikelihood
from .blocks import Block
from .entries_of_rows import EntriesOfRows
from .guide_draws import guide_draws
from .reader import Reader
from .some_entries import of_some


def draws(reader: Reader, block: Block, n: int) -> Iterator[Trace]:
    """Traces of the model on a block, with latents from the posterior.

    Raises:
        PlatewiseError: If the block has new rows or columns and the model cannot draw them from its prior.
    """
    for q in guide_draws(reader.fitted.guide, block.known, n):
        model = poutine.replay(reader.fitted.model, _replayed(reader, block, q))
        try:
            trace = poutine.trace(model).get_trace(block.batch)
        except (IndexError, RuntimeError) as error:
            if not block.new:
                raise
            raise _no_prior(reader, block) from error
        yield trace


def entry_site(trace: Trace, block: Block) -> dict[str, Any]:
    """The observed site in the plate of entries; of a model that observes whole rows, their entries.

    Raises:
        PlatewiseError: If there is none, or more than one, or the block has some entries of such rows only.
    """
    observed = observed_sites(trace)
    of_rows = [site for site in observed.values() if isinstance(site["fn"], RowLikelihood)]
    if len(observed) == len(of_rows) == 1:
        return of_rows[0] | {"fn": EntriesOfRows(of_rows[0]["fn"], block)}
    plates = {name: plate_of(site, trace, block.batch) for name, site in observed.items()}
    if list(plates.values()) == ["rows"]:
        (site,) = observed.values()
        if _can_be_taken_apart(site["fn"], block):
            return site | {"fn": of_some(site["fn"].base_dist, block.batch.row * block.batch.n_cols + block.batch.col)}
    names = [name for name, plate in plates.items() if plate == "entries"]
    if len(names) != 1:
        raise PlatewiseError(
            f"Expected a model with one observed site in the plate of entries, got {names}. Read it out with to_arviz."
        )
    return observed[names[0]]


def _can_be_taken_apart(rows: Any, block: Block) -> bool:
    """Whether rows are independent entries, of which the block has all; or some, where the model read no totals."""
    if not isinstance(rows, Independent) or rows.event_shape != (block.batch.n_cols,):
        return False
    return block.has_whole_rows or not block.batch.totals_were_read


def _replayed(reader: Reader, block: Block, q: Trace) -> Trace:
    kept = Trace()
    for name, site in latent_sites(q).items():
        if reader.places.get(name, "entries") not in {*block.new, "entries"}:
            kept.add_node(name, **site)
    return kept


def _no_prior(reader: Reader, block: Block) -> PlatewiseError:
    meaning = reader.fitted.meaning
    names = {"rows": meaning["row_name"], "cols": meaning["col_name"]}
    new = " and ".join(f"{name}s" for plate, name in names.items() if plate in block.new)
    return PlatewiseError(
        f"Expected ids that the fit knows, got new {new}, which {type(reader.fitted.model).__name__} cannot draw from "
        "a prior. Leave them out."
    )
