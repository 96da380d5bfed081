"""The No-U-Turn Sampler on a model of the contract, all of its data as one batch.

For small data: a step evaluates the whole model, and takes as many gradients as its tree has leaves. Learned parameters
of the model are held as they are. `examples/families.py` shows the same with ArviZ.

References:
    Hoffman and Gelman (2014), The No-U-Turn Sampler.
"""

from __future__ import annotations

import anndata as ad
import pyro
import torch
from platewise.data import RowLoader, source_of
from pyro.infer import MCMC, NUTS
from pyro.infer.autoguide import init_to_sample
from torch import Tensor, nn


def nuts(
    model: nn.Module,
    data: ad.AnnData,
    draws: int,
    warmup: int,
    seed: int,
    *,
    chains: int = 1,
    max_tree_depth: int = 8,
    dtype: torch.dtype = torch.float64,
) -> dict[str, Tensor]:
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

    Returns:
        Draws of each latent site, on its own support, (chains, draws, ...).
    """
    (batch,) = RowLoader(source_of(data).rows, data.n_obs, dtype=dtype).in_order()
    runs = []
    for chain in range(chains):
        with torch.random.fork_rng(devices=[]):
            pyro.set_rng_seed(seed + chain)
            kernel = NUTS(model, init_strategy=init_to_sample, max_tree_depth=max_tree_depth)
            mcmc = MCMC(kernel, num_samples=draws, warmup_steps=warmup, disable_progbar=True)
            mcmc.run(batch)
            runs.append(mcmc.get_samples())
    return {name: torch.stack([run[name] for run in runs]).detach() for name in runs[0]}
