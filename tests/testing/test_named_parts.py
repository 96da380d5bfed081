"""A test class names its model and guide in one line, and has data to be tested on."""

import numpy as np
import pytest
import torch
from platewise.data import PlatewiseError
from platewise.data.meaning import meaning
from platewise.guides import MeanFieldNormal
from platewise.testing.contract import ContractTests
from platewise.testing.small_data import small_data

from ..inference.broken_models import Levels


class Counts(Levels):
    unstored = "zero"


def program(batch) -> None:
    """A model that is a function."""
    Levels()(batch)


def contract(**parts) -> ContractTests:
    return type("Contract", (ContractTests,), parts)()


def is_collected(test_class: type) -> bool:
    """What pytest asks of a class whose name it takes for one of tests."""
    return bool(getattr(test_class, "__test__", True))


def test_a_class_without_a_model_or_a_guide_has_no_tests() -> None:
    named = contract(model=Levels, guide=MeanFieldNormal)
    assert is_collected(type(named))
    assert is_collected(type("Further", (type(named),), {}))
    assert is_collected(type(contract(make_model=Levels, make_guide=MeanFieldNormal)))
    for test_class in (ContractTests, type(contract(model=Levels)), type(contract(make_guide=MeanFieldNormal))):
        assert not is_collected(test_class)
    assert getattr(type(named), "__test__", False) is False  # True would be collected under any name


@pytest.mark.parametrize("make", [Levels, lambda: Levels(), staticmethod(lambda: Levels())])
def test_whatever_makes_a_model_makes_a_new_one_each_time(make) -> None:
    named = contract(model=make)
    assert isinstance(named.make_model(), Levels)
    assert named.make_model() is not named.make_model()


def test_a_function_of_a_batch_is_the_model() -> None:
    named = contract(model=program, guide=MeanFieldNormal)
    assert named.make_model() is program
    named.test_guide_samples_the_sites_of_the_model()


@pytest.mark.parametrize(
    ("model", "message"),
    [(Levels(), "got Levels, which is made already. Set model = MyModel"), (None, "got none. Set model = MyModel")],
)
def test_what_makes_no_model_is_refused(model, message: str) -> None:
    with pytest.raises(PlatewiseError, match=message) as error:
        contract(model=model).make_model()
    assert "\n" not in str(error.value)


def test_data_are_what_the_model_takes() -> None:
    assert meaning(contract(model=Levels).make_data())["unstored"] == "missing"
    assert meaning(contract(model=Counts).make_data())["unstored"] == "zero"


@pytest.mark.parametrize(
    ("values", "unstored", "expected"),
    [("ratings", "missing", {1, 2, 3, 4, 5}), ("binary", "missing", {0, 1}), ("binary", "zero", {1})],
)
def test_small_data_hold_such_values(values: str, unstored: str, expected: set[int]) -> None:
    data, again = small_data(values, unstored), small_data(values, unstored)
    assert data.shape == (40, 15)
    assert set(data.X.data.astype(int)) == expected
    assert np.array_equal(data.X.data, again.X.data)
    assert unstored == "zero" or data.X.nnz == 200


@pytest.mark.parametrize("unstored", ["missing", "zero"])
def test_small_counts_have_zeros_where_those_belong(unstored: str) -> None:
    x = small_data("counts", unstored).X
    assert (x.data == 0).any() == (unstored == "missing")
    assert torch.from_numpy(np.diff(x.indptr)).gt(0).all() or unstored == "missing"
    assert x.data.max() > 5


def test_values_of_another_kind_are_refused() -> None:
    with pytest.raises(PlatewiseError, match="Expected values among ratings, counts, binary, got 'stars'"):
        small_data("stars")
