"""Reading a fitted posterior: predict, evaluate, recommend, factors, new rows, and ArviZ."""

from .anomalies import anomalies
from .containers import load_netcdf, save_netcdf
from .denoise import denoise
from .effective_rank import effective_rank
from .embed import embed
from .evaluate import evaluate
from .export import to_arviz
from .factors import Factors, factors
from .fold_in import fold_in
from .generate import generate
from .predict import predict
from .rank_genes import rank_genes
from .recalibrate import recalibrate
from .recommend import recommend
from .refine import refine
from .row_scores import score_rows
from .scores import Evaluation

__all__ = [
    "Evaluation",
    "Factors",
    "anomalies",
    "denoise",
    "effective_rank",
    "embed",
    "evaluate",
    "factors",
    "fold_in",
    "generate",
    "load_netcdf",
    "predict",
    "rank_genes",
    "recalibrate",
    "recommend",
    "refine",
    "save_netcdf",
    "score_rows",
    "to_arviz",
]
