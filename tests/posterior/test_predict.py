"""Predictions: closed form against sampling, ids, intervals, unknown ids."""

import numpy as np
import pandas as pd
import pytest
from platewise.data.errors import PlatewiseError
from platewise.posterior import blocks, predict, predictive
from scipy.stats import norm

N = 600


@pytest.fixture
def pairs(split):
    """Some pairs of the test part, as ids."""
    entries = split[1].X.tocoo()
    return split[1].obs_names[entries.row[:60]].astype(int), split[1].var_names[entries.col[:60]].astype(int)


@pytest.mark.parametrize("of", ["rating", "mean"])
def test_closed_form_agrees_with_sampling(fitted, pairs, of):
    closed = predict(fitted, *pairs, of=of, method="closed-form")
    sampled = predict(fitted, *pairs, of=of, method="sampled", n_samples=N)
    z = (sampled["mean"] - closed["mean"]) / (closed["sd"] / np.sqrt(N))
    assert abs(z).max() < norm.isf(1e-6 / len(z))
    # The sd of a product of normals has kurtosis up to that of an exponential: six times the normal's error is safe.
    np.testing.assert_allclose(sampled["sd"], closed["sd"], rtol=6 / np.sqrt(2 * N))


def test_moment_matched_intervals_agree_with_sampled_ones(block_fit, pairs):
    closed = predict(block_fit, *pairs, method="closed-form")
    sampled = predict(block_fit, *pairs, method="sampled", n_samples=N)
    # Quantile error of a normal at 5 %: sqrt(p (1 - p) / n) / density, in sd; and the shapes differ a little.
    error = 6 * np.sqrt(0.05 * 0.95 / N) / norm.pdf(norm.ppf(0.05)) + 0.05
    for end in ("lower", "upper"):
        assert (abs(sampled[end] - closed[end]) / closed["sd"]).max() < error


def test_rating_has_the_noise_that_its_mean_has_not(block_fit, pairs):
    rating, mean = predict(block_fit, *pairs), predict(block_fit, *pairs, of="mean")
    noise = float(block_fit.model.sigma.detach()) ** 2
    np.testing.assert_allclose(rating["sd"] ** 2, mean["sd"] ** 2 + noise, rtol=1e-8)
    np.testing.assert_array_equal(rating["mean"], mean["mean"])


@pytest.mark.parametrize("user", [42, "42", 42.0, np.int64(42), np.array([42]), pd.Series(["42"]), [42]])
def test_an_id_is_found_in_any_type(block_fit, user):
    found = predict(block_fit, user, [1, "2", np.int64(3)])
    assert found["user"].tolist() == [42, 42, 42]
    assert found["item"].tolist() == [1, 2, 3]
    assert found["user"].dtype == found["item"].dtype == np.int64
    assert found["known_user"].all()
    assert found["known_item"].all()


def test_pairs_and_broadcasts_agree(block_fit):
    together = predict(block_fit, [1, 2, 1], 7)
    apart = [predict(block_fit, user, 7) for user in (1, 2, 1)]
    pd.testing.assert_frame_equal(together, pd.concat(apart, ignore_index=True))


def test_unknown_ids_get_the_prior_predictive(fitted):
    pairs = ([1, "new", 1, "new"], [1, 1, "none", "none"])
    found = predict(fitted, *pairs, method="closed-form")
    assert found["known_user"].tolist() == [True, False, True, False]
    assert found["known_item"].tolist() == [True, True, False, False]
    model = fitted.model
    user, item, sigma = (x.exp().detach() for x in (model.log_user_scale, model.log_item_scale, model.log_sigma))
    product = (user[:-1] * item[:-1]).square().sum()
    mu = fitted.guide.posterior(fitted.blank_batch())["mu"]
    assert found["mean"][3] == pytest.approx(float(mu.mean.detach()))
    variance = product + user[-1] ** 2 + item[-1] ** 2 + sigma**2 + mu.variance.detach()
    assert found["sd"][3] ** 2 == pytest.approx(float(variance))
    assert found["sd"][0] < min(found["sd"][1:3])
    n = 500
    sampled = predict(fitted, *pairs, method="sampled", n_samples=n)
    assert (abs(sampled["mean"] - found["mean"]) / found["sd"] * np.sqrt(n)).max() < 5
    # Products of normals have heavy tails: their sd is estimated less well than a normal's.
    np.testing.assert_allclose(sampled["sd"], found["sd"], rtol=10 / np.sqrt(2 * n))


def test_unknown_ids_come_back_as_they_were(block_fit):
    found = predict(block_fit, [1, "007", 999], 5)
    assert found["user"].tolist() == [1, "007", 999]
    assert predict(block_fit, [1, 999], 5)["user"].dtype == np.int64


def test_blocks_of_any_size_give_the_same(block_fit, pairs, monkeypatch):
    users, items = [*pairs[0], "x", "y", 1], [*pairs[1], 1, "z", "z"]
    whole = predict(block_fit, users, items)
    monkeypatch.setattr(predictive, "MAX_ENTRIES", 7)
    monkeypatch.setattr(blocks, "MAX_ROWS", 2)
    pd.testing.assert_frame_equal(predict(block_fit, users, items), whole, rtol=1e-10)


def test_wider_level_wider_interval(block_fit):
    narrow, wide = (predict(block_fit, 1, 1, level=level).iloc[0] for level in (0.5, 0.95))
    assert wide["lower"] < narrow["lower"] < narrow["mean"] < narrow["upper"] < wide["upper"]
    assert (wide["upper"] - wide["lower"]) / wide["sd"] == pytest.approx(2 * norm.ppf(0.975))


def test_no_ids_no_lines(block_fit):
    assert len(predict(block_fit, [], [])) == 0


def test_one_seed_one_answer_and_the_generator_is_left_alone(block_fit):
    import torch

    before = torch.get_rng_state()
    first, second = (predict(block_fit, 1, [1, 2], method="sampled", n_samples=20, seed=3) for _ in range(2))
    pd.testing.assert_frame_equal(first, second)
    assert torch.equal(before, torch.get_rng_state())


def test_another_model_is_sampled(regression, people):
    x = people[1]
    found = predict(regression, ["p3", "p4"], ["q0", "new"], covariates={"x": x}, of="mean", n_samples=400)
    q = regression.guide.posterior(regression.blank_batch())
    a = regression.guide.tables["a"]
    at = (a.loc + a.unit * a.table.weight[:, :1]).detach().numpy()[[3, 4]].ravel()
    expected = float(q["mu"].mean.detach()) + x[[3, 4]] @ q["beta"].mean.detach().numpy() + at
    assert (abs(found["mean"] - expected) / found["sd"] * np.sqrt(400)).max() < 5
    assert found["known_item"].tolist() == [True, False]


def test_a_new_row_of_another_model_needs_its_covariates(regression, people):
    x = people[1]
    with pytest.raises(PlatewiseError, match=r"covariate 'x' of user 'new', got none"):
        predict(regression, "new", "q0", covariates={"x": x})
    named = pd.DataFrame(np.vstack([x, [[9.0, 0.0]]]), index=[*(f"p{i}" for i in range(60)), "new"])
    found = predict(regression, ["new", "p3"], "q0", covariates={"x": named}, n_samples=200)
    assert found["mean"][0] > found["mean"][1] + 2  # beta_0 is about 0.5
    same = predict(regression, "p3", "q0", covariates={"x": x}, n_samples=200)
    assert same["known_user"][0]


def test_a_guide_that_reads_entries_gets_them(amortised, people):
    answers = people[0]
    with pytest.raises(PlatewiseError, match="Pass data="):
        predict(amortised, "p1", "q1")
    found = predict(amortised, "p1", "q1", data=answers, of="mean", n_samples=N)
    mean = float(amortised.guide.slope.detach()) * answers.X[1].data.mean() + float(amortised.model.offset[1].detach())
    assert abs(found["mean"][0] - mean) < 5 * 0.1 / np.sqrt(N)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda f: predict(f, [1, 2], [1, 2, 3]), "as many users as items, or one of either, got 2 and 3"),
        (lambda f: predict(f, 1, 1, level=1.0), "level between 0 and 1, got 1.0"),
        (lambda f: predict(f, 1, 1, of="noise"), "of among .* got 'noise'"),
        (lambda f: predict(f, 1, 1, method="magic"), "method among .* got 'magic'"),
        (lambda f: predict(f, 1, 1, n_samples=1), "at least 2 samples, got 1"),
        (lambda f: predict(f, None, 1), "an id that is an integer or text, got nan"),
        (lambda f: predict(f, 1, 1, covariates={"age": [1]}), r"covariates of the fit, \[\], got \['age'\]"),
    ],
)
def test_invalid_use(block_fit, call, message):
    with pytest.raises(PlatewiseError, match=message):
        call(block_fit)


def test_invalid_use_of_another_model(regression, amortised, people):
    answers, x = people
    with pytest.raises(PlatewiseError, match="in closed form, got none"):
        predict(regression, "p1", "q1", covariates={"x": x}, method="closed-form")
    with pytest.raises(PlatewiseError, match=r"covariates of the fit, \['x'\], got \[\]"):
        predict(regression, "p1", "q1")
    with pytest.raises(PlatewiseError, match=r"covariate 'x' of shape \(60, 2\), got \(3, 2\)"):
        predict(regression, "p1", "q1", covariates={"x": x[:3]})
    with pytest.raises(PlatewiseError, match="got new items, which Levels cannot draw from a prior"):
        predict(amortised, "p1", "new", data=answers)
    with pytest.raises(PlatewiseError, match="fingerprints differ"):
        predict(amortised, "p1", "q1", data=answers[:10].copy())
