"""Reading a fitted posterior: predict, evaluate, recommend, factors, new rows, and ArviZ."""

from .containers import load_netcdf, save_netcdf
from .effective_rank import effective_rank
from .embed import embed
from .evaluate import evaluate
from .export import to_arviz
from .factors import Factors, factors
from .fold_in import fold_in
from .predict import predict
from .recommend import recommend
from .row_scores import score_rows
from .scores import Evaluation

__all__ = [
    "Evaluation",
    "Factors",
    "effective_rank",
    "embed",
    "evaluate",
    "factors",
    "fold_in",
    "load_netcdf",
    "predict",
    "recommend",
    "save_netcdf",
    "score_rows",
    "to_arviz",
]
