"""Generative programs: one file, one story; and the likelihoods that they observe rows with."""

from .count_factor import CountFactor
from .count_rows import NegativeBinomialRows, PoissonRows, ZeroInflatedNegativeBinomialRows
from .latent_factor import LatentFactor
from .likelihoods import LIKELIHOODS, BernoulliRows, GaussianRows
from .multinomial_rows import MultinomialRows
from .row_likelihood import RowLikelihood
from .simulate import expected_counts, simulate_cells
from .student_t import StudentT
from .vae import VAE

__all__ = [
    "LIKELIHOODS",
    "VAE",
    "BernoulliRows",
    "CountFactor",
    "GaussianRows",
    "LatentFactor",
    "MultinomialRows",
    "NegativeBinomialRows",
    "PoissonRows",
    "RowLikelihood",
    "StudentT",
    "ZeroInflatedNegativeBinomialRows",
    "expected_counts",
    "simulate_cells",
]
