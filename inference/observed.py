"""Whether a model observes anything: one that does not learns nothing from its data, silently."""

from __future__ import annotations

from typing import Any

from pyro.poutine.messenger import Messenger
from pyro.poutine.subsample_messenger import _Subsample

from ..data.errors import PlatewiseError


class ObservedSites(Messenger):
    """Remembers the observed sites of the programs that run inside, deterministic sites and plates left out.

    It watches runs that are made anyway: one of its own would draw from the generator of the fit.

    Attributes:
        names: The sites.
    """

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def _pyro_post_sample(self, msg: Any) -> None:
        is_data = msg["is_observed"] and not msg["infer"].get("_deterministic")
        if is_data and not isinstance(msg["fn"], _Subsample):
            self.names.add(msg["name"])

    def require_some(self, n_entries: int) -> None:
        """Check that there is an observed site, of a matrix with entries.

        Raises:
            PlatewiseError: If there are entries, and none.
        """
        if n_entries and not self.names:
            raise PlatewiseError(
                f"Expected a model that observes the matrix's {n_entries} entries, got one without an observed site. "
                "Pass obs= to one of its pyro.sample statements, or data=None to fit a model without data."
            )
