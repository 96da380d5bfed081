"""Reading a fitted posterior: predict, evaluate, recommend, factors, new rows, and ArviZ."""

from .containers import load_netcdf, save_netcdf
from .effective_rank import effective_rank
from .evaluate import Evaluation, evaluate
from .export import to_arviz
from .factors import Factors, factors
from .fold_in import fold_in
from .predict import predict
from .recommend import recommend

__all__ = [
    "Evaluation",
    "Factors",
    "effective_rank",
    "evaluate",
    "factors",
    "fold_in",
    "load_netcdf",
    "predict",
    "recommend",
    "save_netcdf",
    "to_arviz",
]
