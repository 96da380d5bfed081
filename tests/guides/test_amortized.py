"""The amortised normal guide: what it reads, its divergence, and what it refuses."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from platewise.data.batches import RowBatch
from platewise.data.errors import PlatewiseError
from platewise.guides import AmortizedNormal
from platewise.inference.elbo import SampledELBO
from platewise.models import VAE
from platewise.testing.contract import ContractTests

from ..count_data import small_counts
from ..models.test_vae import batch_of


def made(**options):
    batch = batch_of(small_counts())
    model, guide = VAE(3, hidden=8), AmortizedNormal(hidden=8, **options)
    model.allocate(batch)
    model.double()
    guide.setup(model, batch)
    return model, guide.double().eval(), batch


READ = {
    "log-normalised": lambda x: torch.log1p(1000 * x / x.sum(1, keepdim=True).clamp_min(1)),
    "log1p": torch.log1p,
    "raw": lambda x: x,
}


@pytest.mark.parametrize("inputs", READ)
def test_what_the_first_layer_reads(inputs) -> None:
    _, guide, batch = made(inputs=inputs)
    dense = READ[inputs](batch.dense()) @ guide.encoder.first
    expected = guide.encoder.output(guide.encoder.blocks(dense))
    torch.testing.assert_close(guide.encoder(batch), expected)


def test_a_row_does_not_depend_on_the_rows_beside_it() -> None:
    _, guide, batch = made()
    guide.train()
    guide.encoder.blocks[0][-1].p = guide.encoder.entry_dropout = 0.0
    some = batch.crow[10]
    part = RowBatch(batch.rows[:10], batch.crow[:11], batch.col[:some], batch.value[:some], 60, batch.n_cols)
    torch.testing.assert_close(guide.posterior(part)["z"].mean, guide.posterior(batch)["z"].mean[:10])


def test_a_row_without_entries_has_a_posterior() -> None:
    _, guide, _ = made()
    nothing = torch.zeros(0, dtype=torch.long)
    empty = RowBatch(torch.tensor([0, 1]), torch.zeros(3, dtype=torch.long), nothing, torch.zeros(0), 60, 25)
    assert guide.posterior(empty)["z"].mean.isfinite().all()


def test_its_divergence_is_the_closed_form() -> None:
    model, guide, batch = made()
    model.eval()
    q = guide.posterior(batch)["z"].base_dist
    expected = (0.5 * (q.loc**2 + q.scale**2 - 1) - q.scale.log()).sum()
    found = [SampledELBO(model, guide).terms(batch)[1] for _ in range(2)]
    torch.testing.assert_close(torch.stack(found), expected.expand(2), rtol=1e-12, atol=0)


def two_sites(batch: RowBatch) -> None:
    with batch.row_plate("cells"):
        library = pyro.sample("library", dist.Normal(7.0, 0.5))
        z = pyro.sample("z", dist.Normal(torch.zeros(2), 1).to_event(1))
        pyro.sample("total", dist.Normal(library.exp() + z.sum(-1), 1), obs=batch.totals())


class TestNumbersAndVectors(ContractTests):
    make_model = staticmethod(lambda: two_sites)
    make_guide = staticmethod(lambda: AmortizedNormal(hidden=8))
    make_data = staticmethod(small_counts)


def test_sites_start_about_their_priors() -> None:
    guide, batch = AmortizedNormal(hidden=8), batch_of(small_counts())
    guide.setup(two_sites, batch)
    q = guide.double().eval().posterior(batch)
    assert list(q) == ["library", "z"]
    assert ((q["library"].mean - 7).abs() < 4 * 0.5).all()
    assert q["z"].mean.abs().max() < 4
    assert q["library"].batch_shape == q["z"].batch_shape == (60,)


def test_sites_start_where_they_are_told() -> None:
    guide, batch = AmortizedNormal(hidden=8), batch_of(small_counts())
    guide.setup(two_sites, batch, {"z": (torch.tensor([5.0, -5.0]), torch.tensor([0.01]))})
    q = guide.double().eval().posterior(batch)["z"]
    torch.testing.assert_close(q.mean, torch.tensor([5.0, -5.0]).expand(60, 2), atol=0.05, rtol=0)


@pytest.mark.parametrize("push", [-1e6, 1e6])
def test_gradients_are_finite_at_the_bounds_of_scales(push: float) -> None:
    model, guide, batch = made()
    guide.encoder.output.bias.data[3:] = push
    SampledELBO(model.eval(), guide)(batch).backward()
    assert all(x.grad.isfinite().all() for x in guide.parameters())


def positive(batch: RowBatch) -> None:
    with batch.row_plate("cells"):
        pyro.sample("z", dist.LogNormal(torch.zeros(2), 1).to_event(1))


def matrix(batch: RowBatch) -> None:
    with batch.row_plate("cells"):
        pyro.sample("z", dist.Normal(torch.zeros(2, 2), 1).to_event(2))


def of_columns(batch: RowBatch) -> None:
    with batch.col_plate("genes"):
        pyro.sample("z", dist.Normal(torch.zeros(2), 1).to_event(1))


def in_two_plates(batch: RowBatch) -> None:
    for name in ("cells", "droplets"):
        with batch.row_plate(name):
            pyro.sample(f"of_{name}", dist.Normal(torch.zeros(2), 1).to_event(1))


def without_latents(batch: RowBatch) -> None:
    pass


@pytest.mark.parametrize("model", [positive, matrix, of_columns, in_two_plates, without_latents])
def test_other_models_are_refused_in_one_line(model) -> None:
    with pytest.raises(PlatewiseError, match="real numbers or vectors of rows, in one plate") as error:
        AmortizedNormal().setup(model, RowBatch.blank(5, 4))
    assert "\n" not in str(error.value)
