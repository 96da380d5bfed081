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

from ..count_data import small_counts
from ..models.test_vae import batch_of


def made(**options):
    batch = batch_of(small_counts())
    model, guide = VAE(3, hidden=8), AmortizedNormal(hidden=8, **options)
    model.allocate(batch)
    model.double()
    guide.setup(model, batch)
    return model, guide.double().eval(), batch


def test_the_first_layer_is_that_of_log_counts() -> None:
    _, guide, batch = made()
    dense = torch.log1p(batch.dense()) @ guide.encoder.first
    expected = guide.encoder.output(guide.encoder.blocks(dense))
    torch.testing.assert_close(guide.encoder(batch), expected)


def test_a_row_does_not_depend_on_the_rows_beside_it() -> None:
    _, guide, batch = made()
    guide.train()
    guide.encoder.blocks[0][-1].p = 0.0
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
        pyro.sample("z", dist.Normal(torch.zeros(2), 1).to_event(1))
        pyro.sample("w", dist.Normal(0.0, 1.0))


def positive(batch: RowBatch) -> None:
    with batch.row_plate("cells"):
        pyro.sample("z", dist.LogNormal(torch.zeros(2), 1).to_event(1))


def of_columns(batch: RowBatch) -> None:
    with batch.col_plate("genes"):
        pyro.sample("z", dist.Normal(torch.zeros(2), 1).to_event(1))


@pytest.mark.parametrize("model", [two_sites, positive, of_columns])
def test_other_models_are_refused_in_one_line(model) -> None:
    with pytest.raises(PlatewiseError, match="one latent site, a real vector per row"):
        AmortizedNormal().setup(model, RowBatch.blank(5, 4))
