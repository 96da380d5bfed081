"""Draws for ArviZ: what they hold, of what they are, and both major versions' containers through one file."""

from dataclasses import replace

import arviz
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
import xarray as xr
from platewise.data.errors import PlatewiseError
from platewise.posterior import load_netcdf, predict, save_netcdf, to_arviz
from platewise.posterior.containers import groups_of
from scipy.stats import norm

USERS, ITEMS = [5, 9, 2], [1, 4]


@pytest.fixture
def idata(block_fit, split):
    """Everything there is, of some users and items."""
    return to_arviz(block_fit, USERS, ITEMS, 60, data=split[0], heldout=split[1][:20].copy())


def test_groups_and_coordinates(idata, split):
    assert set(idata.groups()) == {"posterior", "sample_stats", "posterior_predictive", "observed_data"}
    posterior = idata.posterior
    assert dict(posterior.sizes) == {"chain": 1, "draw": 60, "user": 3, "item": 2, "A_dim_0": 3, "B_dim_0": 3}
    assert posterior["user"].values.tolist() == USERS
    assert posterior["item"].values.tolist() == ITEMS
    assert posterior["A"].dims == ("chain", "draw", "user", "A_dim_0")
    assert set(posterior.data_vars) == {"mu", "A", "a", "B", "b"}
    part = split[1][:20].X
    np.testing.assert_allclose(idata.observed_data["rating"], part.data)
    assert idata.posterior_predictive["rating"].shape == (1, 60, part.nnz)
    assert idata.observed_data["user"].values.tolist() == idata.posterior_predictive["user"].values.tolist()


def test_attributes_say_what_made_the_draws(idata, block_fit):
    about = idata.posterior.attrs
    assert about["inference_library"] == "platewise"
    assert about["algorithm"] == "svi"
    assert about["elbo"] == block_fit.elbo
    assert about["stopped"] == block_fit.stopped
    assert (about["fit_seed"], about["draws_seed"], about["frame"]) == (0, 0, "canonical")
    assert {"pyro_version", "torch_version", "inference_library_version", "converged"} <= set(about)


@pytest.mark.parametrize("canonical", [True, False])
def test_draws_predict(fitted, canonical):
    n = 500
    draws = to_arviz(fitted, USERS, ITEMS, n, canonical=canonical).posterior
    users, items = (next(d for d in draws.dims if d.startswith(name)) for name in ("user", "item"))
    product = (draws["A"].rename(A_dim_0="r") * draws["B"].rename(B_dim_0="r")).sum("r")
    form = (draws["mu"] + draws["a"] + draws["b"] + product).transpose("chain", "draw", users, items)[0]
    expected = predict(fitted, np.repeat(USERS, 2), np.tile(ITEMS, 3), of="mean")
    z = (form.mean("draw").values.ravel() - expected["mean"]) / expected["sd"] * np.sqrt(n)
    assert abs(z).max() < 5
    np.testing.assert_allclose(form.std("draw").values.ravel(), expected["sd"], rtol=10 / np.sqrt(2 * n))


def test_both_frames_are_of_the_same_draws(block_fit):
    raw, framed = (to_arviz(block_fit, USERS, ITEMS, 10, canonical=c).posterior for c in (False, True))
    forms = []
    for draws in (raw, framed):
        a, b = draws["a"].values[..., :, None], draws["b"].values[..., None, :]
        forms.append(draws["mu"].values[..., None, None] + a + b + draws["A"].values @ draws["B"].values.swapaxes(2, 3))
    np.testing.assert_allclose(forms[0], forms[1], atol=1e-8)


def test_log_densities_of_a_row(block_fit, split):
    train = split[0]
    idata = to_arviz(block_fit, USERS, train.var_names, 4, data=train, canonical=False)
    draws, stats, model = idata.posterior, idata.sample_stats, block_fit.model
    rows = torch.tensor(train.obs_names.get_indexer([str(user) for user in USERS]))
    q = block_fit.guide.posterior(_rows(block_fit, rows))["user"]
    user = torch.tensor(draws["user"].values[0])
    np.testing.assert_allclose(stats["log_q"][0], q.log_prob(user).detach(), rtol=1e-8)
    prior = model.block_dist(model.log_user_scale).log_prob(user).detach().numpy()
    for i, row in enumerate(rows.tolist()):
        x = train.X[row]
        mean = draws["mu"].values[0][:, None] + draws["a"].values[0][:, i, None] + draws["b"].values[0][:, x.indices]
        mean = mean + np.einsum("nr,njr->nj", draws["A"].values[0][:, i], draws["B"].values[0][:, x.indices])
        likelihood = norm.logpdf(x.data, mean, float(model.sigma.detach())).sum(1)
        np.testing.assert_allclose(stats["log_p"][0, :, i], prior[:, i] + likelihood, rtol=1e-8)


def _rows(fitted, rows):
    from dataclasses import replace

    blank = fitted.blank_batch()
    crow = torch.zeros(len(rows) + 1, dtype=torch.long)
    return replace(blank, rows=rows, crow=crow, col=blank.col[:0], value=blank.value[:0])


def test_without_training_data_there_is_no_log_p(block_fit):
    assert set(to_arviz(block_fit, USERS, n_draws=5).sample_stats.data_vars) == {"log_q", "log_p"}
    idata = to_arviz(replace(block_fit, data=None), USERS, n_draws=5)
    assert set(idata.sample_stats.data_vars) == {"log_q"}
    assert set(idata.posterior.data_vars) == {"mu", "A", "a"}
    assert set(to_arviz(block_fit, n_draws=5).groups()) == {"posterior"}


def test_predictive_draws_agree_with_predict(block_fit, split):
    part = split[1][:10].copy()
    n = 600
    drawn = to_arviz(block_fit, n_draws=n, heldout=part).posterior_predictive["rating"][0]
    expected = predict(block_fit, drawn["user"].values, drawn["item"].values)
    assert (abs(drawn.mean("draw").values - expected["mean"]) / expected["sd"] * np.sqrt(n)).max() < 5


def test_held_out_entries_of_unknown_ids(block_fit, split, renamed):
    part = renamed(split[1][:10].copy(), {"1": "someone"}, {})
    found = to_arviz(block_fit, n_draws=5, heldout=part).observed_data
    assert found["user"].values[0] == "someone"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # ArviZ's own, of matplotlib
def test_arviz_reads_it(idata):
    table = arviz.summary(idata, var_names=["mu", "a"])
    assert table.index.tolist() == ["mu", "a[5]", "a[9]", "a[2]"]
    arviz.plot_forest(idata, var_names=["A"])
    arviz.plot_ppc(idata, num_pp_samples=10)
    plt.close("all")


def test_the_interface_of_arviz_1(block_fit, split):
    base = pytest.importorskip("arviz_base")
    tree = to_arviz(block_fit, USERS, ITEMS, 50, heldout=split[1][:5].copy(), container="DataTree")
    assert isinstance(tree, xr.DataTree)
    flat = base.extract(tree, group="posterior", var_names=["a"])
    assert flat.sizes == {"user": 3, "sample": 50}
    assert base.convert_to_dataset(tree)["mu"].sizes == {"chain": 1, "draw": 50}


def test_the_statistics_of_arviz_1(block_fit):
    stats = pytest.importorskip("arviz_stats")
    tree = to_arviz(block_fit, USERS, n_draws=50, container="DataTree")
    assert "a[5]" in stats.summary(tree).index


@pytest.mark.parametrize("container", ["InferenceData", "DataTree"])
def test_netcdf_there_and_back(block_fit, split, container, tmp_path):
    made = to_arviz(block_fit, USERS, ITEMS, 8, data=split[0], heldout=split[1][:5].copy(), container=container)
    save_netcdf(made, tmp_path / "posterior.nc")
    for other in ("InferenceData", "DataTree"):
        back = load_netcdf(tmp_path / "posterior.nc", other)
        assert type(back).__name__ == other
        for name, dataset in groups_of(made).items():
            xr.testing.assert_identical(groups_of(back)[name], dataset)
    assert arviz.from_netcdf(tmp_path / "posterior.nc").posterior.sizes["draw"] == 8
    xr.open_datatree(tmp_path / "posterior.nc", engine="h5netcdf").close()
    assert [path.name for path in tmp_path.iterdir()] == ["posterior.nc"]


def test_a_failed_write_leaves_nothing(idata, tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(xr.Dataset, "to_netcdf", full)
    with pytest.raises(PlatewiseError, match="No space left on device"):
        save_netcdf(idata, tmp_path / "posterior.nc")
    assert not list(tmp_path.iterdir())


def test_another_model(regression, people, tmp_path):
    answers, x = people
    options = {"data": answers, "covariates": {"x": x}, "heldout": answers[:5].copy()}
    idata = to_arviz(regression, ["p3", "p40"], n_draws=50, **options)
    posterior = idata.posterior
    assert posterior["user"].values.tolist() == ["p3", "p40"]
    assert posterior["beta"].dims == ("chain", "draw", "beta_dim_0")
    level = posterior["mu"] + posterior["a"] + (posterior["beta"].values @ x[[3, 40]].T)
    np.testing.assert_allclose(posterior["level"], level, rtol=1e-10)
    assert (posterior["tau"] > 0).all()
    assert set(idata.sample_stats.data_vars) == {"log_p", "log_q"}
    assert list(idata.observed_data.data_vars) == ["answer"]
    save_netcdf(idata, tmp_path / "p.nc")
    assert load_netcdf(tmp_path / "p.nc").posterior["user"].values.tolist() == ["p3", "p40"]


def test_one_seed_one_set_of_draws(block_fit):
    first, second, other = (to_arviz(block_fit, USERS, n_draws=3, seed=seed).posterior for seed in (1, 1, 2))
    assert first["A"].equals(second["A"])
    assert not first["A"].equals(other["A"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rows": [5, "nobody"]}, "users that the fit knows, got 'nobody'"),
        ({"cols": 12345}, "items that the fit knows, got '12345'"),
        ({"n_draws": 0}, "at least 1 draw, got 0"),
        ({"container": "Dataset"}, "container among .* got 'Dataset'"),
    ],
)
def test_invalid_use(block_fit, options, message):
    with pytest.raises(PlatewiseError, match=message):
        to_arviz(block_fit, **({"n_draws": 2} | options))


def test_too_many_held_out_entries(block_fit, split):
    with pytest.raises(PlatewiseError, match=r"at most 134 entries with 1000000 draws"):
        to_arviz(block_fit, n_draws=1_000_000, heldout=split[1])


def test_files_that_are_not_there_or_not_whole(idata, tmp_path):
    with pytest.raises(PlatewiseError, match="no such file"):
        load_netcdf(tmp_path / "none.nc")
    with pytest.raises(PlatewiseError, match="which does not exist"):
        save_netcdf(idata, tmp_path / "none" / "p.nc")
    path = tmp_path / "p.nc"
    save_netcdf(idata, path)
    with pytest.raises(PlatewiseError, match="which exists"):
        save_netcdf(idata, path)
    save_netcdf(idata, path, force=True)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(PlatewiseError, match="a damaged one"):
        load_netcdf(path)
