"""The gallery: its files, the contract of each model with each guide, and the likelihood that one of them brings."""

import numpy as np
import pytest
import torch
from platewise.guides import FullNormal, MeanFieldNormal, RowBlockNormal
from platewise.models import PoissonRows
from platewise.testing.contract import ContractTests
from platewise.testing.small_data import small_data

from .models_gallery import (
    FOLDER,
    GroupsOfUsers,
    ItemResponse,
    MissingDataPCA,
    PoissonFactorization,
    load,
    whole,
)

GALLERY = ("groups_of_users", "item_response", "missing_data_pca", "poisson_factorization")


def test_the_list_is_the_folder() -> None:
    assert tuple(sorted(path.stem for path in FOLDER.glob("*.py"))) == GALLERY


@pytest.mark.parametrize("stem", GALLERY)
def test_a_file_is_short_and_tells_its_story(stem: str) -> None:
    assert (FOLDER / f"{stem}.py").read_text(encoding="utf-8").count("\n") < 80
    story = load(stem).__doc__
    assert " ~ " in story
    assert "| symbol" in story
    assert "References:" in story


class PoissonFactorizationContract(ContractTests):
    model = PoissonFactorization
    global_sites = ("size", "eta", "beta")


class TestPoissonFactorizationMeanField(PoissonFactorizationContract):
    guide = MeanFieldNormal


class TestPoissonFactorizationRowBlock(PoissonFactorizationContract):
    guide = RowBlockNormal


class TestPoissonFactorizationParticles(PoissonFactorizationContract):
    guide = FullNormal
    options = {"particles": 3}  # noqa: RUF012


class GroupsOfUsersContract(ContractTests):
    global_sites = ("mu", "sigma", "tau", "kappa", "group", "item")

    def make_model(self) -> GroupsOfUsers:
        return GroupsOfUsers(2, {"group": 4})

    def make_covariates(self) -> dict[str, np.ndarray]:
        return {"group": np.arange(40) % 4}


class TestGroupsOfUsersMeanField(GroupsOfUsersContract):
    guide = MeanFieldNormal


class TestGroupsOfUsersRowBlock(GroupsOfUsersContract):
    guide = RowBlockNormal


class TestGroupsOfUsersParticles(GroupsOfUsersContract):
    guide = FullNormal
    options = {"particles": 3}  # noqa: RUF012


class MissingDataPCAContract(ContractTests):
    model = MissingDataPCA
    global_sites = ("mu", "sigma", "v", "W", "m")


class TestMissingDataPCAMeanField(MissingDataPCAContract):
    guide = MeanFieldNormal


class TestMissingDataPCARowBlock(MissingDataPCAContract):
    guide = RowBlockNormal


class TestMissingDataPCAParticles(MissingDataPCAContract):
    guide = FullNormal
    options = {"particles": 3}  # noqa: RUF012


class ItemResponseContract(ContractTests):
    model = ItemResponse
    values = "binary"
    global_sites = ("mu", "tau", "difficulty", "discrimination")


class TestItemResponseMeanField(ItemResponseContract):
    guide = MeanFieldNormal


class TestItemResponseRowBlock(ItemResponseContract):
    guide = RowBlockNormal


class TestItemResponseParticles(ItemResponseContract):
    guide = FullNormal
    options = {"particles": 3}  # noqa: RUF012


@pytest.mark.parametrize("particles", [(), (3,)])
def test_a_product_of_rates_is_scored_as_its_dense_rows_are(particles: tuple[int, ...]) -> None:
    batch = whole(small_data("counts", "zero").X)
    theta, beta = torch.rand(*particles, 40, 4), torch.rand(*particles, 15, 4)
    found = load("poisson_factorization").ProductRates(batch, theta, beta)
    expected = PoissonRows(batch, (theta @ beta.mT).log()).log_prob(batch.value)
    torch.testing.assert_close(found.log_prob(batch.value), expected)
    torch.testing.assert_close(found.log_prob(batch.dense()), expected)


def test_answers_far_from_the_threshold_keep_their_gradients() -> None:
    x = torch.tensor([-30.0, 30.0], dtype=torch.float32, requires_grad=True)
    logits = torch.special.log_ndtr(x) - torch.special.log_ndtr(-x)
    (gradient,) = torch.autograd.grad(
        torch.distributions.Bernoulli(logits=logits).log_prob(torch.tensor([1.0, 0.0])).sum(), x
    )
    torch.testing.assert_close(gradient, torch.tensor([30.0, -30.0], dtype=torch.float32), rtol=0.01, atol=0)
