import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from platewise.data import PlatewiseError, RowBatch, RowLoader, simulate_ratings, write_h5ad
from platewise.data import disk as disk_module
from platewise.data.loader import MemoryRows
from platewise.guides import MeanFieldNormal, RowBlockNormal
from platewise.inference import Fitted, svi
from platewise.models import LatentFactor
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ..regression_model import Regression, RegressionGuide, regression_data

TRUTH = {"rank": 2, "sigma": 0.5, "user_scale": 0.4, "item_scale": 0.4}
RATINGS, _ = simulate_ratings(LatentFactor(**TRUTH), 60, 30, 500, given={"mu": 3.5})


def _fit(model: object = None, guide: object = None, data: object = RATINGS, **options: object) -> Fitted:
    given = {"epochs": 4, "batch_rows": 16, "progress": False} | options
    return svi.fit(model or LatentFactor(2), guide or RowBlockNormal(), data, **given)


def _parameters(fitted: Fitted) -> list[torch.Tensor]:
    return [*fitted.model.state_dict().values(), *fitted.guide.state_dict().values()]


def _equal(one: Fitted, two: Fitted) -> bool:
    return all(torch.equal(x, y) for x, y in zip(_parameters(one), _parameters(two), strict=True))


@pytest.mark.parametrize("likelihood", ["closed-form", "sampled"])
@pytest.mark.parametrize("family", [MeanFieldNormal, RowBlockNormal])
def test_one_seed_is_one_fit_to_the_bit(family, likelihood):
    one, two, other = (_fit(guide=family(), seed=seed, likelihood=likelihood) for seed in (5, 5, 6))
    assert _equal(one, two)
    assert not _equal(one, other)


def test_a_fit_leaves_the_callers_generator_and_validation_alone():
    torch.manual_seed(9)
    before = torch.get_rng_state()
    _fit()
    assert torch.equal(torch.get_rng_state(), before)
    assert pyro.settings.get("validate_poutine")


def test_the_bound_rises():
    history = _fit(epochs=30).history
    assert history["elbo"].iloc[-1] > history["elbo"].iloc[0] + 100


def test_the_history_has_a_row_an_epoch():
    fitted = _fit()
    history = fitted.history
    names = ["epoch", "step", "elbo", "seconds", "entries_per_second", "learning_rate", "skipped"]
    assert history.columns.tolist() == names
    assert history["epoch"].tolist() == [1, 2, 3, 4]
    assert history["step"].tolist() == [4, 8, 12, 16]
    assert history["seconds"].is_monotonic_increasing
    assert (history["entries_per_second"] > 0).all()
    assert history["skipped"].tolist() == [0] * 4
    assert history["learning_rate"].iloc[-1] == pytest.approx(0.5 * 0.01)
    assert fitted.elbo == history["elbo"].iloc[-1]


def test_a_fit_says_how_it_ended():
    fitted = _fit()
    assert fitted.stopped == "all 4 epochs done; convergence was not tested"
    assert fitted.converged is None
    assert (fitted.algorithm, fitted.seed, fitted.n_rows, fitted.n_cols) == ("svi", 0, 60, 30)
    assert fitted.obs["n_entries"].sum() == RATINGS.X.nnz
    assert fitted.options["batch_rows"] == 16


def test_the_elbo_of_an_epoch_is_that_of_its_batches():
    """With a learning rate of nearly zero, it is the full bound, to the error of the steps."""
    fitted = _fit(learning_rate=1e-12, epochs=1, dtype=torch.float64)
    loader = RowLoader(MemoryRows(RATINGS.X), 60, dtype=torch.float64)
    bound = svi.elbo_of(fitted.model, fitted.guide, loader.look(60))(loader.look(60))
    assert fitted.elbo == pytest.approx(bound.item(), rel=1e-8)


def test_a_fit_from_disk_sees_every_row_once_an_epoch_and_learns_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(disk_module, "BLOCK_ROWS", 8)
    monkeypatch.setattr(disk_module, "WINDOW_BLOCKS", 2)
    seen: list[int] = []
    step = svi.step
    monkeypatch.setattr(svi, "step", lambda state, batch: seen.extend(batch.rows.tolist()) or step(state, batch))
    write_h5ad(RATINGS, tmp_path / "x.h5ad")
    disk = _fit(data=tmp_path / "x.h5ad", epochs=30)
    for epoch in range(30):
        assert sorted(seen[60 * epoch : 60 * (epoch + 1)]) == list(range(60))
    memory = _fit(epochs=30)
    assert disk.elbo == pytest.approx(memory.elbo, abs=0.05 * RATINGS.X.nnz)
    assert disk.fingerprint == memory.fingerprint


@pytest.mark.parametrize("family", [MeanFieldNormal, RowBlockNormal])
@pytest.mark.parametrize("likelihood", ["closed-form", "sampled"])
def test_a_step_makes_nothing_of_the_size_of_the_plate_of_rows(family, likelihood):
    """It costs O(batch + n_cols): no operation but in place on tables yields a number a row of all rows."""
    n_rows = 30_000
    ratings, _ = simulate_ratings(LatentFactor(**TRUTH), n_rows, 20, n_rows)
    loader = RowLoader(MemoryRows(ratings.X), 50)
    state = svi.init(LatentFactor(2), family(), loader, svi.Options(likelihood=likelihood))
    batches = [loader.batch(np.arange(50)), loader.batch(np.arange(100, 150))]
    svi.step(state, batches[0])  # moments are made once
    watch = _Largest({p.data_ptr() for p in _kept(state)})
    with watch:
        svi.step(state, batches[1])
    assert watch.calls > 100
    assert watch.largest < n_rows / 4


def _kept(state: svi.State) -> list[torch.Tensor]:
    return [*state.elbo.parameters(), *state.elbo.buffers(), *state.optimizer.state_dict().values()]


class _Largest(TorchDispatchMode):
    """The largest tensor that any operation returns, those that live on from step to step left out."""

    def __init__(self, kept: set[int]) -> None:
        super().__init__()
        self.kept, self.largest, self.calls = kept, 0, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        self.calls += 1
        for x in tree_leaves(out):
            if isinstance(x, torch.Tensor) and x.layout == torch.strided and x.data_ptr() not in self.kept:
                self.largest = max(self.largest, x.numel())
        return out


class _Counts(nn.Module):
    """A Poisson whose rate varies by user."""

    def forward(self, batch: RowBatch) -> None:
        with batch.row_plate("users"):
            a = pyro.sample("a", dist.Normal(batch.value.new_zeros(()), 1.0))
        with batch.entries("counts"):
            pyro.sample("count", dist.Poisson(batch.at_rows(a, event_dim=0).exp()), obs=batch.value)


class _Explodes(nn.Module):
    """A model whose likelihood is not a number on some steps."""

    def __init__(self, bad: range) -> None:
        super().__init__()
        self.inner, self.bad, self.steps = LatentFactor(2), bad, 0

    def forward(self, batch) -> None:
        self.steps += torch.is_grad_enabled()  # not the runs before the first step
        if self.steps in self.bad:
            pyro.factor("bad", self.inner.log_sigma * math.nan)
        self.inner(batch)


def test_steps_that_are_not_finite_are_skipped_and_counted():
    fitted = _fit(_Explodes(range(10, 13)), epochs=10)
    assert fitted.history["skipped"].iloc[-1] == 3
    assert np.isfinite(fitted.history["elbo"]).all()
    assert all(x.isfinite().all() for x in _parameters(fitted))
    assert fitted.converged is None


def test_too_many_of_them_end_the_fit_with_the_last_good_parameters(monkeypatch):
    after, step = {}, svi.step

    def remember(state: svi.State, batch: object) -> None:
        step(state, batch)
        after[state.step] = [x.clone() for x in state.elbo.guide.state_dict().values()]

    monkeypatch.setattr(svi, "step", remember)
    fitted = _fit(_Explodes(range(9, 10_000)), epochs=50, check_every=5, max_skipped=8)
    assert fitted.stopped.startswith("12 of 20 steps had a gradient that was not finite")
    assert "Lower the learning rate" in fitted.stopped
    assert fitted.converged is False
    ended = list(fitted.guide.state_dict().values())
    assert all(torch.equal(x, y) for x, y in zip(ended, after[8], strict=True))
    assert not all(torch.equal(x, y) for x, y in zip(after[7], after[8], strict=True))


def test_a_short_fit_that_never_takes_a_step_says_so():
    fitted = _fit(_Explodes(range(1, 10_000)), epochs=1)
    assert "had a gradient that was not finite" in fitted.stopped
    assert math.isnan(fitted.elbo)


def test_ratings_that_are_not_numbers_are_refused_before_the_fit():
    bad = RATINGS.copy()
    bad.X.data[:2] = np.nan
    with pytest.raises(PlatewiseError, match=r"2 of .* that are NaN or infinite"):
        _fit(data=bad)


def test_a_bound_that_is_not_finite_is_skipped_and_counted_though_its_gradient_is():
    negative = RATINGS.copy()
    negative.X.data[:] = np.abs(negative.X.data).round()
    negative.X.data[0] = -1  # impossible under a Poisson, in a later batch than the one that is checked before a fit
    fitted = _fit(_Counts(), MeanFieldNormal(), negative, epochs=2)
    assert fitted.history["skipped"].tolist() == [1, 2]


def test_parameters_of_the_model_are_trained_in_place():
    model, guide = LatentFactor(2), MeanFieldNormal()
    before = model.log_sigma.item()
    fitted = _fit(model, guide, epochs=20)
    assert fitted.model is model
    assert fitted.guide is guide
    assert model.log_sigma.item() != before


def test_two_fits_live_in_one_process():
    one = _fit(seed=1)
    before = [x.clone() for x in _parameters(one)]
    _fit(seed=2)
    assert all(torch.equal(x, y) for x, y in zip(_parameters(one), before, strict=True))


@pytest.mark.parametrize("guide", [MeanFieldNormal, RowBlockNormal, lambda: RegressionGuide(60)])
def test_a_model_that_is_not_ours_is_fitted_with_its_covariates(guide):
    ratings, covariates = regression_data()
    fitted = svi.fit(Regression(), guide(), ratings, covariates=covariates, epochs=20, progress=False)
    assert fitted.covariates == {"x": {"shape": [], "dtype": "float32"}}
    assert fitted.elbo > fitted.history["elbo"].iloc[0]


def test_progress_is_shown_on_standard_error_alone(capsys):
    _fit(progress=True)
    captured = capsys.readouterr()
    assert "ELBO" in captured.err
    assert "per entry" in captured.err
    assert captured.out == ""


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "Expected epochs above 0, got 0"),
        ({"batch_rows": -1}, "Expected batch_rows above 0, got -1"),
        ({"learning_rate": -0.1}, "Expected learning_rate above 0, got -0.1"),
        ({"learning_rate": math.nan}, "Expected learning_rate above 0, got nan"),
        ({"clip_norm": 0.0}, "Expected clip_norm above 0"),
        ({"particles": 0}, "Expected particles above 0"),
        ({"warmup": 1.0}, "Expected warmup from 0 to below 1, got 1.0"),
        ({"betas": (0.9, 1.0)}, "Expected betas from 0 to below 1"),
        ({"learning_rat": 0.1}, r"Expected options among \[.*'learning_rate'.*\], got \['learning_rat'\]"),
        ({"seed": -1}, "of at least 0, got -1"),
        ({"device": "abacus"}, "Expected a device of this machine, got 'abacus'"),
        ({"covariates": {"x": np.zeros(3)}}, "Expected covariate 'x' as numbers for 60 rows, got float64 of shape"),
        ({"covariates": {"x": np.array(["a"] * 60)}}, "Expected covariate 'x' as numbers for 60 rows, got <U1"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, message):
    with pytest.raises(PlatewiseError, match=message) as error:
        _fit(**options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("epochs", 2.5, "Expected epochs as a whole number, got 2.5"),
        ("epochs", 2.0, "Expected epochs as a whole number, got 2.0. Write it without a point."),
        ("epochs", "2", "Expected epochs above 0, got '2'"),
        ("likelihood", "exact", "Expected a likelihood among .*'closed-form'.* got 'exact'"),
    ],
)
def test_options_of_another_type_are_refused(name, value, message):
    """Set from outside: under pytest the annotations would refuse them first."""
    options = svi.Options()
    object.__setattr__(options, name, value)
    with pytest.raises(PlatewiseError, match=message):
        options.__post_init__()


def test_a_guide_made_for_other_data_is_refused():
    guide = MeanFieldNormal()
    _fit(guide=guide, epochs=1)
    other, _ = simulate_ratings(LatentFactor(**TRUTH), 70, 30, 500)
    with pytest.raises(PlatewiseError, match="with 60 rows, for which the guide was made, got one with 70") as error:
        _fit(guide=guide, data=other)
    assert "\n" not in str(error.value)
