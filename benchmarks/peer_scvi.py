"""scvi-tools beside us on counts of cells: SCVI at its documentation's settings, scored by our definition.

The score is not its own `get_elbo`, one draw with 1e-8 added inside its logarithms, but the definition of
`platewise.posterior.score_rows`: means over many draws, all normalising constants, double precision.
"""

import time
import warnings
from collections.abc import Callable, Iterator

import numpy as np
import scvi
import torch
from anndata import AnnData
from cell_bounds import bounds_of, coefficients, powers
from cell_data import CellSplit
from lightning.pytorch.callbacks import Callback
from scvi.model import SCVI

KL_WARMUP = 50  # epochs
BATCH_ROWS = 256  # of scoring
SETTINGS = f"negative binomial, 10 latent, observed library, batch 128, KL warm-up {KL_WARMUP} epochs, else default"


def model_of(split: CellSplit, seed: int) -> SCVI:
    """An untrained model of the cells to fit."""
    warnings.filterwarnings("ignore")
    scvi.settings.seed = seed
    SCVI.setup_anndata(split.fit, batch_key=split.batch)
    return SCVI(split.fit, n_latent=10, gene_likelihood="nb")


def train(model: SCVI, epochs: int, *callbacks: Callback, batch_rows: int = 128) -> None:
    """Train on all cells given, on the processor, quietly."""
    model.train(
        max_epochs=epochs,
        accelerator="cpu",
        train_size=1.0,
        batch_size=batch_rows,
        plan_kwargs={"n_epochs_kl_warmup": KL_WARMUP},
        callbacks=list(callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
    )


class EpochClock(Callback):
    """Seconds of training at the end of each epoch, less those that `look` takes.

    Args:
        every: Epochs between looks.
        look: What is called then; its figure goes into `curve`.
    """

    def __init__(self, every: int = 1, look: Callable[[], float] | None = None) -> None:
        self.every, self.look = every, look
        self.began, self.looked = time.perf_counter(), 0.0
        self.seconds: list[float] = []
        self.curve: list[tuple[float, float]] = []

    def on_train_epoch_end(self, trainer: object, pl_module: torch.nn.Module) -> None:
        """Note the time, and look; called by the trainer."""
        now = time.perf_counter()
        self.seconds.append(now - self.began - self.looked)
        if self.look is not None and len(self.seconds) % self.every == 0:
            with torch.random.fork_rng():
                self.curve.append((self.seconds[-1], self.look()))
            pl_module.train()
        self.looked += time.perf_counter() - now


def bounds(model: SCVI, cells: AnnData, draws: int, seed: int = 0) -> np.ndarray:
    """ELBO and importance-weighted bound of each cell, (n_cells, 2), in nats, as `score_rows` defines them."""
    torch.manual_seed(seed)
    model.module.eval()
    loader = model._make_data_loader(adata=model._validate_anndata(cells), batch_size=BATCH_ROWS)
    with torch.no_grad():
        found = [bounds_of(torch.stack(list(log_weights(model, tensors, draws)))) for tensors in loader]
    return torch.cat(found).numpy()


def log_weights(model: SCVI, tensors: dict[str, torch.Tensor], draws: int) -> Iterator[torch.Tensor]:
    """Log p(x, z) - log q(z | x) of a batch's cells (b,), draw by draw, by the model's own networks."""
    module = model.module
    inferred = module.inference(**module._get_inference_input(tensors))
    q, x = inferred["qz"], tensors["X"].double()
    constant = None
    for _ in range(draws):
        z = q.sample()
        generated = module.generative(**module._get_generative_input(tensors, inferred | {"z": z}))
        px, pz = generated["px"], generated["pz"]
        mean, theta = px.mu.double(), px.theta.double()
        constant = coefficients(x, theta) if constant is None else constant  # the same for every draw
        prior = pz.log_prob(z).double().sum(-1) - q.log_prob(z).double().sum(-1)
        yield constant + powers(x, mean, theta) + prior
