"""What breaks the contract is refused before a fit, in one line that says what to do."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from platewise.data import PlatewiseError, make_ratings
from platewise.guides import MeanFieldNormal
from platewise.inference import svi
from platewise.inference.contract import as_module, check_contract, require_module
from platewise.testing.contract import ContractTests
from pyro.infer.autoguide import AutoNormal

from ..regression_model import regression_data
from . import broken_models as broken

DATA, _ = regression_data(12, 4)


def _fit(model: object, guide: object, **options: object) -> svi.Fitted:
    return svi.fit(model, guide, DATA, epochs=2, batch_rows=5, progress=False, **options)


def _own_rows(batch) -> None:
    broken.OwnRows()(batch)


def _with_a_parameter(batch) -> None:
    broken.GlobalParameter()(batch)


@pytest.mark.parametrize(
    ("model", "guide", "message"),
    [
        (broken.OwnRows(), MeanFieldNormal(), "plate 'rows' of site 'level' to take the batch's rows, .* batch.row_p"),
        (broken.PlateOfTheBatch(), MeanFieldNormal(), "plate 'rows' of site 'level' .* got one of the batch's size 4 "),
        (broken.Broadcasts(), MeanFieldNormal(), r"observed site 'y' .* shape \(\d+,\), got \(\d+, \d+\) .*Something"),
        (broken.EntriesInRows(), MeanFieldNormal(), "entries plate 'entries' outside any row plate"),
        (broken.GlobalParameter(), MeanFieldNormal(), "got pyro.param.'level'. .*, which would not be trained"),
        (_with_a_parameter, MeanFieldNormal(), "got pyro.param.'level'. .*, which would not be trained"),
        (_own_rows, MeanFieldNormal(), "to take the batch's rows"),
        (broken.Levels, MeanFieldNormal(), "Expected the model to be an nn.Module .*, got the class Levels"),
        (broken.Levels(), broken.LacksASite(), r"latent sites \['level', 'mu'\], got \['level'\]. Add 'mu' "),
        (broken.Levels(), broken.MoreSites(), r"latent sites \['level', 'mu'\], got \['level', 'mu', 'nu'\]"),
        (broken.Levels(), broken.OutsideThePlate(), "sample 'level' in the plate of the batch's rows, got it outside"),
        (broken.Levels(), broken.OneEvent(), r"sample 'level' of shape .*use .to_event\(\) as the model does"),
        (broken.Levels(), broken.MeanPerRow(), r"sample 'mu' of shape \(\) .*got \(4,\)"),
        (broken.Levels(), AutoNormal(broken.Levels()), "create_plates= of Pyro's automatic guides"),
        (broken.Levels(), broken.NotReparameterised(), "guide site 'mu' to be reparameterised"),
    ],
)  # fmt: skip
def test_what_breaks_the_contract_is_refused(model, guide, message):
    before = set(pyro.get_param_store().keys())
    with pytest.raises(PlatewiseError, match=message) as error:
        _fit(model, guide)
    assert "\n" not in str(error.value)
    assert set(pyro.get_param_store().keys()) == before


@pytest.mark.parametrize(
    ("check", "message"),
    [
        (lambda: as_module("levels"), "Expected the model to be an nn.Module .*, got str"),
        (lambda: require_module("guide", _own_rows), "Expected the guide to be an nn.Module .*, got function"),
        (lambda: require_module("guide", MeanFieldNormal), "Expected the guide .*, got the class MeanFieldNormal"),
    ],
)
def test_what_is_no_module_is_refused(check, message):
    with pytest.raises(PlatewiseError, match=message):
        check()


def test_what_keeps_to_it_is_not():
    fitted = _fit(broken.Levels(), broken.LevelsGuide())
    assert np.isfinite(fitted.elbo)


def test_a_plain_function_without_parameters_will_do_as_a_model():
    def levels(batch) -> None:
        broken.Levels()(batch)

    module = _fit(broken.Levels(), MeanFieldNormal(), seed=3)
    function = _fit(levels, MeanFieldNormal(), seed=3)
    assert function.history["elbo"].tolist() == module.history["elbo"].tolist()


def test_nothing_to_train_is_refused():
    class Nothing(torch.nn.Module):
        def forward(self, batch) -> None:
            with batch.entries("entries"):
                pyro.sample("y", dist.Normal(0.0, 1.0), obs=batch.value)

    with pytest.raises(PlatewiseError, match="Expected a model or a guide with parameters, got none to train"):
        _fit(Nothing(), MeanFieldNormal())


def test_a_module_made_before_platewise_was_imported_is_refused():
    """Pyro decides when a module is made where its parameters live."""
    pyro.settings.set(module_local_params=False)
    try:
        guide = broken.LevelsGuide()
    finally:
        pyro.settings.set(module_local_params=True)
    with pytest.raises(PlatewiseError, match="LevelsGuide to be made after importing platewise"):
        _fit(broken.Levels(), guide)


def test_the_check_leaves_gradients_and_values_alone():
    guide = broken.LevelsGuide()
    before = {name: x.clone() for name, x in guide.state_dict().items()}
    check_contract(broken.Levels(), guide, _batch())
    assert all(torch.equal(x, before[name]) for name, x in guide.state_dict().items())
    assert all(p.grad is None for p in guide.parameters())


def _batch():
    return next(Contract()._loader().epoch(0))


class Contract(ContractTests):
    """The shipped tests, on models that break what they test."""

    global_sites = ("mu",)
    make_data = staticmethod(lambda: DATA)
    make_guide = MeanFieldNormal
    make_model = broken.Levels


@pytest.mark.parametrize(
    ("parts", "test", "message"),
    [
        ({"make_guide": broken.LacksASite}, "guide_samples_the_sites_of_the_model", r"got \['level'\]"),
        ({"make_guide": broken.OutsideThePlate}, "sites_have_the_same_plates_in_model_and_guide", "'level' in plates"),
        ({"make_model": broken.OwnRows}, "row_plates_hold_the_rows_of_the_batch", "Write batch.row_plate.'rows'."),
        ({"make_model": broken.Broadcasts}, "observed_log_probs_have_the_shape_of_their_plates", "of 'y' of its plate"),
        ({"make_model": broken.PlateOfTheBatch}, "only_row_sites_change_shape_with_the_batch", "'level' of shape"),
        ({"make_model": broken.GlobalInPlate}, "global_sites_are_drawn_once", "'mu' to be drawn once"),
        ({"make_model": broken.Unscaled}, "mini_batches_are_unbiased", "Open entries with batch.entries"),
        ({"make_model": broken.Unscaled}, "gradients_of_mini_batches_are_unbiased", "the gradient by"),
        ({"make_guide": broken.OutsideThePlate}, "gradients_of_mini_batches_are_unbiased", "the gradient by"),
    ],
)  # fmt: skip
def test_the_shipped_tests_fail_where_they_should(parts, test, message):
    contract = type("Broken", (Contract,), parts)()
    with pytest.raises(AssertionError, match=message):
        getattr(contract, f"test_{test}")()


def test_ids_of_other_kinds_are_of_no_concern():
    ratings = make_ratings(DATA.X, [f"u{k}" for k in range(12)], [f"i{k}" for k in range(4)])
    fitted = svi.fit(broken.Levels(), MeanFieldNormal(), ratings, epochs=1, progress=False)
    assert fitted.obs.index[0] == "u0"
