"""The No-U-Turn Sampler on a model of the contract, all of its data as one batch.

For small data: a step evaluates the whole model, and takes as many gradients as its tree has leaves. Learned parameters
of the model are held as they are. `examples/families.py` shows the same with ArviZ.

Most of a step is Pyro's handlers and autograd, not arithmetic. So the program is run once, the operations of its log
joint and gradient are recorded, and steps play the record: a gradient takes 0.3 ms in place of 2 (30 x 20, rank 2).
A record of a program that takes another path elsewhere would be wrong, so it is compared with the program at a point
that it was not made at.

References:
    Hoffman and Gelman (2014), The No-U-Turn Sampler.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import anndata as ad
import pyro
import torch
from jaxtyping import Float
from platewise.data import RowLoader, source_of
from platewise.data.batches import RowBatch
from platewise.data.errors import PlatewiseError
from pyro.infer import MCMC, NUTS
from pyro.infer.autoguide import init_to_sample
from pyro.infer.mcmc.util import initialize_model
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx

Vector = Float[Tensor, " d"]
Differentiated = Callable[[Vector], tuple[Float[Tensor, ""], Vector]]


@dataclass(frozen=True)
class Sampled:
    """Draws, and what the sampler says of itself.

    Attributes:
        sites: Draws of each latent site, on its own support, (chains, draws, ...).
        divergent: Draws of all chains whose trajectory diverged.
        gradients: Gradients that all chains took, warm-up included.
    """

    sites: dict[str, Tensor]
    divergent: int
    gradients: int


def nuts(model: nn.Module, data: ad.AnnData, draws: int, warmup: int, seed: int, **options: Any) -> dict[str, Tensor]:
    """Draws of each latent site, on its own support, (chains, draws, ...); arguments are those of `sampled`."""
    return sampled(model, data, draws, warmup, seed, **options).sites


def sampled(
    model: nn.Module,
    data: ad.AnnData,
    draws: int,
    warmup: int,
    seed: int,
    *,
    chains: int = 1,
    max_tree_depth: int = 8,
    dtype: torch.dtype = torch.float64,
    recorded: bool = True,
) -> Sampled:
    """Draw from a model's posterior.

    Args:
        model: The model, called as `model(batch)`; of type `dtype`.
        data: The matrix, read whole.
        draws: Draws of each chain.
        warmup: Steps of each chain before its first draw, in which it adapts.
        seed: Seed of the first chain; the others take those after it.
        chains: Chains, one after the other, each from a draw of the prior.
        max_tree_depth: Most doublings of a trajectory.
        dtype: Precision of the data.
        recorded: Whether steps play a record of the program, or run it.

    Raises:
        PlatewiseError: If the program cannot be recorded.
    """
    (batch,) = RowLoader(source_of(data).rows, data.n_obs, dtype=dtype).in_order()
    with torch.random.fork_rng(devices=[]), pyro.validation_enabled(False):
        pyro.set_rng_seed(seed)
        potential = Potential(model, _PlainBatch.of(batch) if recorded else batch)
        if recorded:
            potential.record()
        runs = [_chain(potential, draws, warmup, seed + chain, max_tree_depth) for chain in range(chains)]
    found = [potential.sites(z) for z, _ in runs]
    sites = {name: torch.stack([sites[name] for sites in found]) for name in found[0]}
    return Sampled(sites, sum(divergent for _, divergent in runs), potential.gradients)


def _chain(potential: Potential, draws: int, warmup: int, seed: int, max_tree_depth: int) -> tuple[Tensor, int]:
    """Draws (draws, d) on the real line, and how many diverged."""
    said: dict[str, Any] = {}

    def listen(kernel: NUTS, _: Any, stage: str, __: int) -> None:
        if stage == "Sample":  # Pyro forgets them as the run ends
            said.update(kernel.diagnostics())

    pyro.set_rng_seed(seed)
    start = {"z": potential.start()}
    kernel = NUTS(potential_fn=potential, max_tree_depth=max_tree_depth)
    settings = {"num_samples": draws, "warmup_steps": warmup, "initial_params": start, "disable_progbar": True}
    mcmc = MCMC(kernel, hook_fn=listen, **settings)
    mcmc.run()
    return mcmc.get_samples()["z"].detach(), len(said["divergences"])


class Potential:
    """Minus the log joint of a model and its data, of all latents as one vector on the real line.

    Args:
        model: The model, called as `model(batch)`.
        batch: All of its data.

    Attributes:
        gradients: How many were taken.
    """

    def __init__(self, model: nn.Module, batch: RowBatch) -> None:
        self._model, self._batch, self.gradients = model, batch, 0
        sites, self._energy, self._transforms, _ = self._initialised()
        self._shapes = {name: x.shape for name, x in sorted(sites.items())}
        self._differentiated: Differentiated = self.differentiated

    def __call__(self, z: dict[str, Tensor]) -> Float[Tensor, ""]:
        """Of a vector by name, as Pyro has it."""
        self.gradients += 1
        energy: Tensor = _WithGradient.apply(z["z"], self._differentiated)
        return energy

    def start(self) -> Vector:
        """A draw of the prior."""
        sites, *_ = self._initialised()
        return torch.cat([sites[name].detach().reshape(-1) for name in self._shapes])

    def sites(self, z: Float[Tensor, "*draws d"]) -> dict[str, Tensor]:
        """Each site on its own support."""
        return {name: self._transforms[name].inv(x) for name, x in self._split(z).items()}

    def differentiated(self, z: Vector) -> tuple[Float[Tensor, ""], Vector]:
        """The potential and its gradient, by running the program."""
        with torch.enable_grad():
            z = z.detach().requires_grad_(True)
            energy = self._energy(self._split(z))
            return energy.detach(), torch.autograd.grad(energy, z)[0]

    def record(self) -> None:
        """From now on, play the operations that the program does.

        Raises:
            PlatewiseError: If they cannot be recorded, or are others at another point.
        """
        made, other = self.start(), self.start()
        try:
            program = make_fx(lambda z: self.differentiated(z))(made).eval()  # it cannot count a method's arguments
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that the compiler is an old one
                record = torch.jit.trace(program, (made,), check_trace=False)
                record = torch.jit.freeze(record)
            pairs = list(zip(record(other), self.differentiated(other), strict=True))
        except RuntimeError as error:
            raise self._refusal("operations that cannot be recorded") from error
        if not all(torch.allclose(played, ran, rtol=1e-6, atol=1e-8) for played, ran in pairs):
            raise self._refusal("others elsewhere")
        self._differentiated = record

    def _refusal(self, got: str) -> PlatewiseError:
        return PlatewiseError(
            f"Expected a program of the same torch operations for all latents, got {got} in "
            f"{type(self._model).__name__}. Sample with recorded=False, which takes several times as long."
        )

    def _initialised(self) -> Any:
        return initialize_model(self._model, (self._batch,), init_strategy=init_to_sample)

    def _split(self, z: Float[Tensor, "*draws d"]) -> dict[str, Tensor]:
        sizes = [shape.numel() for shape in self._shapes.values()]
        parts = zip(self._shapes.items(), z.split(sizes, -1), strict=True)
        return {name: x.reshape(z.shape[:-1] + shape) for (name, shape), x in parts}


class _WithGradient(torch.autograd.Function):
    """A potential whose gradient comes with it."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, differentiated: Differentiated) -> Tensor:
        energy, gradient = differentiated(z)
        ctx.save_for_backward(gradient)
        return energy

    @staticmethod
    def backward(ctx: Any, *of_energy: Tensor) -> tuple[Tensor, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * of_energy[0], None


class _PlainBatch(RowBatch):
    """A batch whose look-ups have a backward pass of recordable operations: sparse products are not."""

    @classmethod
    def of(cls, batch: RowBatch) -> _PlainBatch:
        return cls(**{field.name: getattr(batch, field.name) for field in fields(batch)})

    def at_rows(self, x: Tensor, event_dim: int = 1) -> Tensor:
        return x.index_select(x.dim() - 1 - event_dim, self.row)

    def at_cols(self, x: Tensor, event_dim: int = 1) -> Tensor:
        return x.index_select(x.dim() - 1 - event_dim, self.col)
