"""The tests of the contract between models, guides and algorithms, for any model and guide.

A model gets them by naming itself, in a file of its owner's:

    from my_model import MyGuide, MyModel
    from platewise.testing.contract import ContractTests

    class TestMyModel(ContractTests):
        model, guide = MyModel, MyGuide

and `python -m pytest` runs them on a small matrix, with covariates if the model says what it takes
(`covariates = {"categories": {"group": 3}, "continuous": {"age": 1}}`). `make_data` and `make_covariates`
return others: 20 to 200 rows will do.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, ClassVar

import anndata as ad
import numpy as np
import pyro
import pytest
import torch
from pyro import poutine
from pyro.poutine.subsample_messenger import _Subsample
from pyro.poutine.trace_struct import Trace
from torch import Tensor, nn

from ..data.batches import RowBatch
from ..data.loader import RowLoader
from ..data.sites import latent_sites, observed_sites, plate_of
from ..data.source import source_of
from ..inference import Fitted, svi
from ..inference.contract import as_module
from ..inference.covariates import describe_covariates
from ..inference.elbo import elbo_of
from ..inference.rebuild import allocate
from .fixed_latents import FixedLatents
from .named_parts import NamedParts
from .small_data import Values, small_covariates, small_data

BATCHES = 3  # mini-batches an epoch
EPOCHS = 2


class ContractTests(NamedParts):
    """Fifteen tests of a model and its guide, which a subclass names; `make_model` and `make_guide` can say more.

    Attributes:
        values: What the small matrix holds: "ratings" from 1 to 5, "counts", or "binary": 0 and 1. For a model with
            `unstored = "zero"` its rows are whole, and counts unless they are binary.
        global_sites: Names of latent sites that are drawn once for all rows, `("mu",)` say. A site that is meant to
            be one of them but stands in a plate of rows is drawn once a row, silently, and pools nothing: only its
            owner can know.
        options: Options of the short fits, `{"likelihood": "sampled"}` say.
    """

    values: ClassVar[Values] = "ratings"
    global_sites: ClassVar[Collection[str]] = ()
    options: ClassVar[Mapping[str, Any]] = {}

    def make_data(self) -> ad.AnnData:
        """The same small data at every call."""
        return small_data(self.values, getattr(self.make_model(), "unstored", "missing"))

    def make_covariates(self) -> dict[str, np.ndarray]:
        """Arrays per row that the model reads: small ones of what it says in its attribute `covariates`, if it does."""
        return small_covariates(self.make_model(), self.make_data().n_obs)

    def test_guide_samples_the_sites_of_the_model(self) -> None:
        """Every latent site of the model is drawn by the guide, and no other."""
        p, q, _ = self._traces()
        drawn = sorted(name for name, site in latent_sites(q).items() if not site["infer"].get("is_auxiliary"))
        expected = sorted(latent_sites(p))
        assert drawn == expected, f"Expected the guide to sample {expected}, got {drawn}. Add or remove sites."

    def test_sites_have_the_same_plates_in_model_and_guide(self) -> None:
        """A plate that one of them lacks is a scale that one of them lacks."""
        p, q, _ = self._traces()
        for name, site in latent_sites(p).items():
            expected, got = _plates(site), _plates(q.nodes[name])
            assert got == expected, f"Expected {name!r} in plates {expected} in the guide, got {got}. Open the same."

    def test_row_plates_hold_the_rows_of_the_batch(self) -> None:
        """A plate that draws its own rows pairs them with the data of others: what it learns about rows is noise."""
        p, q, batch = self._traces()
        for name, site in [*p.nodes.items(), *q.nodes.items()]:
            if isinstance(site.get("fn"), _Subsample) and len(site["value"]) < site["fn"].size:
                assert torch.equal(site["value"], batch.rows), (
                    f"Expected plate {name!r} to hold the batch's rows, got others. Write batch.row_plate({name!r})."
                )

    def test_observed_log_probs_have_the_shape_of_their_plates(self) -> None:
        """A likelihood that broadcasts compares every value with every mean."""
        p, _, _ = self._traces()
        assert observed_sites(p), "Expected a model with an observed site, got none. Pass obs=batch.value to one."
        for name, site in observed_sites(p).items():
            expected, got = _plate_shape(site), tuple(site["fn"].log_prob(site["value"]).shape)
            assert got == expected, (
                f"Expected log-probabilities of {name!r} of its plates' shape {expected}, got {got}. Keep plates at "
                "dim=-1 and use .to_event() for other axes."
            )

    def test_only_row_sites_change_shape_with_the_batch(self) -> None:
        """Sites in the plate of rows have one value a row; the others have one shape, whatever the batch."""
        (p, _, batch), (smaller, _, other) = self._traces(), self._traces(2 * BATCHES)
        for name, site in latent_sites(p).items():
            in_rows = plate_of(site, p, batch) == "rows"
            event = tuple(site["fn"].event_shape)
            expected = (len(other.rows), *event) if in_rows else tuple(site["value"].shape)
            got = tuple(smaller.nodes[name]["value"].shape)
            assert got == expected, (
                f"Expected {name!r} of shape {expected} in a batch of {len(other.rows)} rows, got {got}. Sample it in "
                "batch.row_plate(...) if it belongs to rows, and outside any plate of the batch's size if not."
            )

    def test_global_sites_are_drawn_once(self) -> None:
        """Sites named in `global_sites` stand in no plate of rows or entries."""
        p, _, batch = self._traces()
        for name in self.global_sites:
            place = plate_of(p.nodes[name], p, batch)
            assert place in ("global", "cols"), (
                f"Expected {name!r} to be drawn once, got one draw for each of the {place}. Move it out of the plate."
            )

    def test_every_guide_parameter_learns(self) -> None:
        """Gradients of the bound are finite and not zero; in tables of rows, for each row of the batch and no other."""
        model, guide = self._modules()
        batch = self._batch()
        (-elbo_of(model, guide, batch, **self._likelihood())(batch)).backward()
        for name, parameter in guide.named_parameters():
            grad = parameter.grad
            assert grad is not None, f"Expected a gradient for the guide's {name}, got none. Is it used?"
            assert grad.to_dense().isfinite().all(), f"Expected finite gradients for the guide's {name}, got others."
            assert grad.to_dense().any(), f"Expected gradients for the guide's {name}, got zeros. Does it matter?"
            if grad.is_sparse:
                learning = grad.to_dense().abs().flatten(1).amax(1).nonzero()[:, 0]
                assert torch.equal(learning, batch.rows.sort().values), (
                    f"Expected {name} to learn at the batch's rows, got {learning.tolist()}. Look up batch.rows."
                )

    def test_mini_batches_are_unbiased(self) -> None:
        """With latents fixed, the bound's mean over disjoint batches is that of all rows at once."""
        (whole, _), (parts, _) = self._averages()
        _same(parts, whole, "the bound")

    def test_gradients_of_mini_batches_are_unbiased(self) -> None:
        """So are its gradients, by every parameter and by every latent."""
        (_, whole), (_, parts) = self._averages()
        for name, expected in whole.items():
            _same(parts[name], expected, f"the gradient by {name}")

    def test_state_dicts_hold_the_whole_posterior(self) -> None:
        """A model and a guide that load the parameters of others draw what these draw."""
        (model, guide), (other_model, other_guide) = self._modules(seed=0), self._modules(seed=1)
        other_model.load_state_dict(model.state_dict())
        other_guide.load_state_dict(guide.state_dict())
        for (name, x), y in zip(self._draw(guide).items(), self._draw(other_guide).values(), strict=True):
            assert torch.equal(x, y), f"Expected {name!r} drawn alike after load_state_dict, got another draw."

    def test_one_seed_gives_one_fit(self) -> None:
        """Two fits of one seed have the same losses and the same parameters, to the bit."""
        one, two = self._fit(seed=3), self._fit(seed=3)
        assert one.history["elbo"].tolist() == two.history["elbo"].tolist()
        for x, y in zip(_parameters(one), _parameters(two), strict=True):
            assert torch.equal(x, y), "Expected equal parameters from equal seeds, got others. Use torch's generator."

    def test_a_fit_raises_a_finite_bound(self) -> None:
        """The bound is finite after every epoch."""
        elbo = self._fit().history["elbo"]
        assert np.isfinite(elbo).all(), f"Expected a finite bound in every epoch, got {elbo.tolist()}."

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_precision_is_chosen_by_the_fit(self, dtype: torch.dtype) -> None:
        """Parameters and draws have the type that is asked for."""
        fitted = self._fit(dtype=dtype)
        kinds = {x.dtype for x in _parameters(fitted) if x.is_floating_point()}
        assert kinds == {dtype}, f"Expected {dtype} throughout, got {kinds}. Make tensors with new_zeros or as buffers."

    def test_a_fit_moves_between_devices(self) -> None:
        """A fit runs on a GPU, where there is one, and its posterior can be read on the CPU."""
        if not torch.cuda.is_available():
            pytest.skip("no GPU here")
        fitted = self._fit(device="cuda")
        assert {x.device.type for x in _parameters(fitted)} == {"cuda"}
        self._draw(fitted.guide.to("cpu"), dtype=fitted.dtype)

    def test_nothing_goes_to_the_global_parameter_store(self) -> None:
        """Parameters live in the modules: several fits live in one process."""
        before = set(pyro.get_param_store().keys())
        self._fit()
        left = set(pyro.get_param_store().keys()) - before
        assert not left, f"Expected parameters in the modules alone, got {sorted(left)} in Pyro's store. Use PyroParam."

    def _loader(self, batches: int = BATCHES, dtype: torch.dtype = torch.float64) -> RowLoader:
        rows = source_of(self.make_data()).rows
        return RowLoader(rows, -(-rows.shape[0] // batches), 0, "cpu", self.make_covariates(), dtype)

    def _batch(self, batches: int = BATCHES, dtype: torch.dtype = torch.float64) -> RowBatch:
        return next(self._loader(batches, dtype).epoch(0))

    def _modules(self, seed: int = 0) -> tuple[nn.Module, nn.Module]:
        """A model and a guide with parameters, in evaluation mode: batch normalisation is not a sum over rows."""
        torch.manual_seed(seed)
        model, guide = as_module(self.make_model()), self.make_guide()
        about = describe_covariates(self.make_covariates())
        allocate(model, guide, self.make_data().shape, about, torch.empty(0, dtype=torch.float64))
        with torch.no_grad():
            guide(self._batch())  # some guides make their parameters when first called
        return model.eval(), guide.to(torch.float64).eval()

    def _traces(self, batches: int = BATCHES) -> tuple[Trace, Trace, RowBatch]:
        """Traces of model and guide, each on its own, on one batch."""
        model, guide = self._modules()
        batch = self._batch(batches)
        p, q = (poutine.trace(module).get_trace(batch) for module in (model, guide))
        return p, q, batch

    def _averages(self) -> list[tuple[Tensor, dict[str, Tensor]]]:
        """Bound and gradients at fixed latents: of all rows at once, and over mini-batches."""
        model, guide = self._modules()
        latents = FixedLatents(model, guide, next(self._loader(1).in_order()))
        return [latents.averaged(model, guide, self._loader(batches).epoch(0)) for batches in (1, BATCHES)]

    def _draw(self, guide: nn.Module, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
        torch.manual_seed(7)
        trace = poutine.trace(guide).get_trace(self._batch(dtype=dtype))
        return {name: site["value"] for name, site in latent_sites(trace).items()}

    def _likelihood(self) -> dict[str, Any]:
        return {name: value for name, value in self.options.items() if name in ("likelihood", "particles")}

    def _fit(self, **options: Any) -> Fitted:
        about = {"epochs": EPOCHS, "batch_rows": self._loader().batch_rows, "covariates": self.make_covariates()}
        given = {**about, "progress": False, "device": "cpu", **self.options, **options}
        return svi.fit(self.make_model(), self.make_guide(), self.make_data(), **given)


def _plates(site: Mapping[str, Any]) -> list[str]:
    return sorted(frame.name for frame in site["cond_indep_stack"])


def _plate_shape(site: Mapping[str, Any]) -> tuple[int, ...]:
    sizes = {frame.dim: frame.size for frame in site["cond_indep_stack"] if frame.dim is not None}
    return tuple(sizes.get(dim, 1) for dim in range(min(sizes, default=0), 0))


def _parameters(fitted: Fitted) -> list[Tensor]:
    return [*fitted.model.state_dict().values(), *fitted.guide.state_dict().values()]


def _same(got: Tensor, expected: Tensor, what: str) -> None:
    size = float(expected.abs().max())
    assert torch.allclose(got, expected, rtol=1e-9, atol=1e-9 * max(size, 1)), (
        f"Expected {what} to average over mini-batches to that of all rows, got off by "
        f"{float((got - expected).abs().max()):.3g} (of {size:.3g}). Open entries with batch.entries(...) and row "
        "sites in batch.row_plate(...); nothing else may be scaled, and no site may be left out of its plate."
    )
