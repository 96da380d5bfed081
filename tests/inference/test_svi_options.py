"""How many steps a fit takes, and fits of next to no rows."""

import numpy as np
import pytest
from platewise.data import PlatewiseError
from platewise.guides import AmortizedNormal
from platewise.inference import Fitted, svi
from platewise.inference.svi_options import chosen_options
from platewise.models import VAE

from ..count_data import small_counts

CELLS = small_counts()
SMALL = {"hidden": 8, "layers": 1, "dropout": 0.2}


def _fit(n_rows: int = 60, **options: object) -> Fitted:
    given = {"batch_rows": 16, "epochs": 2, "validation": 0.0, "progress": False} | options
    return svi.fit(VAE(2, **SMALL), AmortizedNormal(**SMALL), CELLS[:n_rows].copy(), **given)


@pytest.mark.parametrize(
    ("options", "epochs", "words"),
    [
        ({"min_steps": 9}, 3, "all 3 epochs, for at least 9 steps done"),
        ({"min_steps": 8}, 2, "all 2 epochs"),
        ({"min_steps": 3}, 2, "all 2 epochs done"),
        ({"epochs": 500, "max_steps": 11}, 2, "all 2 epochs, for at most 11 steps done"),
        ({"max_steps": 1}, 1, "1 epoch, for at most 1 step done"),
        ({"max_steps": 1000}, 2, "all 2 epochs done"),
        ({"min_steps": 9, "max_steps": 10}, 2, "all 2 epochs, for at most 10 steps done"),
    ],
)
def test_epochs_keep_to_bounds_on_the_steps(options, epochs, words):
    fitted = _fit(**options)
    assert fitted.options["epochs"] == len(fitted.history) == epochs
    assert fitted.stopped.startswith(words)


def test_a_fit_by_steps_is_gone_on_with_by_either_number_of_epochs():
    done = _fit(min_steps=9)
    for epochs in (2, 3):
        assert len(_fit(min_steps=9, epochs=epochs, resume=done).history) == 3


class _Advises:
    recommended = {"epochs": 7, "min_steps": 100, "max_steps": 200, "validation": 0.1, "patience": 5}  # noqa: RUF012


def test_epochs_that_are_given_count_as_they_are():
    advised, given = chosen_options(_Advises(), {}), chosen_options(_Advises(), {"epochs": 3})
    assert (advised.epochs, advised.min_steps, advised.patience) == (7, 100, 5)
    assert (given.epochs, given.min_steps, given.max_steps, given.patience) == (3, None, None, 5)
    assert chosen_options(_Advises(), {"epochs": 3, "min_steps": 8}).min_steps == 8


def test_a_recommended_bound_on_the_steps_gives_way_to_the_other_if_that_is_given():
    fewer, more = chosen_options(_Advises(), {"max_steps": 50}), chosen_options(_Advises(), {"min_steps": 300})
    assert (fewer.min_steps, fewer.max_steps) == (None, 50)
    assert (more.min_steps, more.max_steps) == (300, None)
    with pytest.raises(PlatewiseError, match="min_steps of at most max_steps, got 9 and 8"):
        chosen_options(_Advises(), {"min_steps": 9, "max_steps": 8})


def test_patience_that_is_recommended_gives_way_to_no_validation():
    assert chosen_options(_Advises(), {"validation": 0.0}).patience is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_steps": 0}, "Expected min_steps above 0, got 0"),
        ({"max_steps": -5}, "Expected max_steps above 0, got -5"),
        ({"min_steps": 9, "max_steps": 8}, "Expected min_steps of at most max_steps, got 9 and 8"),
    ],
)
def test_bounds_that_make_no_sense_are_refused(options, message):
    with pytest.raises(PlatewiseError, match=message):
        svi.Options(**options)


@pytest.mark.parametrize("n_rows", [2, 17])
@pytest.mark.parametrize("batch_rows", [1, 16, 512])
def test_few_rows_are_fitted(n_rows, batch_rows):
    """Batches of one row, batches larger than the data; divergence warmed up over a step or two."""
    fitted = _fit(n_rows, batch_rows=batch_rows, kl_warmup=0.2)
    assert np.isfinite(fitted.history["elbo"]).all()
    assert fitted.history["skipped"].iloc[-1] == 0


@pytest.mark.parametrize("n_rows", [2, 17])
def test_few_rows_are_fitted_with_some_held_out(n_rows):
    fitted = _fit(n_rows, validation=0.1, patience=1)
    assert np.isfinite(fitted.history["validation_elbo"]).all()
    assert fitted.obs["held_out"].sum() == max(round(0.1 * n_rows), 1)


def test_one_row_alone_is_refused():
    with pytest.raises(PlatewiseError, match="Expected two rows and two columns at least"):
        _fit(1)


def test_a_guide_made_for_other_columns_is_refused():
    guide = AmortizedNormal(**SMALL)
    options = {"batch_rows": 16, "epochs": 1, "progress": False}
    svi.fit(VAE(2, **SMALL), guide, CELLS, **options)
    with pytest.raises(PlatewiseError, match=r"Expected a matrix with 25 columns, for which .* one with 20") as error:
        svi.fit(VAE(2, **SMALL), guide, CELLS[:, :20].copy(), **options)
    assert "\n" not in str(error.value)
