"""Reading a fitted posterior: predict, evaluate, recommend, factors, new rows, and ArviZ."""

from .anomalies import anomalies
from .calibration import calibration
from .containers import load_netcdf, save_netcdf
from .denoise import denoise
from .diagnostics import Diagnosis, diagnose
from .effective_rank import effective_rank
from .embed import embed
from .evaluate import evaluate
from .export import to_arviz
from .factors import Factors, factors
from .fold_in import fold_in
from .generate import generate
from .k_hat import k_hats
from .loo import SubsampledLoo, subsampled_loo
from .posterior_predictive import posterior_predictive_checks
from .predict import predict
from .rank_genes import rank_genes
from .recalibrate import recalibrate
from .recommend import recommend
from .references import references
from .refine import refine
from .report import report
from .restarts import compare_restarts
from .row_scores import score_rows
from .scores import Evaluation
from .simulated_fits import simulation_calibration_of
from .simulation_calibration import simulation_calibration

__all__ = [
    "Diagnosis",
    "Evaluation",
    "Factors",
    "SubsampledLoo",
    "anomalies",
    "calibration",
    "compare_restarts",
    "denoise",
    "diagnose",
    "effective_rank",
    "embed",
    "evaluate",
    "factors",
    "fold_in",
    "generate",
    "k_hats",
    "load_netcdf",
    "posterior_predictive_checks",
    "predict",
    "rank_genes",
    "recalibrate",
    "recommend",
    "references",
    "refine",
    "report",
    "save_netcdf",
    "score_rows",
    "simulation_calibration",
    "simulation_calibration_of",
    "subsampled_loo",
    "to_arviz",
]
