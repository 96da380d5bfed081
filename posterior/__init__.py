"""Reading a fitted posterior: predict, evaluate, recommend, factors, and ArviZ."""

from .containers import load_netcdf, save_netcdf
from .evaluate import Evaluation, evaluate
from .export import to_arviz
from .factors import Factors, factors
from .predict import predict
from .recommend import recommend

__all__ = [
    "Evaluation",
    "Factors",
    "evaluate",
    "factors",
    "load_netcdf",
    "predict",
    "recommend",
    "save_netcdf",
    "to_arviz",
]
