"""Variational families: one file, one family."""

from .amortized import AmortizedGuide, AmortizedNormal
from .amortized_flow import AmortizedFlow
from .amortized_full import AmortizedFullNormal
from .auto import AutoGuide
from .flow import Flow
from .full_normal import FullNormal
from .joint import JointGuide
from .low_rank_normal import LowRankNormal
from .mean_field_normal import MeanFieldNormal
from .mixture_of_normals import MixtureOfNormals
from .normal import NormalGuide
from .row_block_normal import RowBlockNormal

__all__ = [
    "AmortizedFlow",
    "AmortizedFullNormal",
    "AmortizedGuide",
    "AmortizedNormal",
    "AutoGuide",
    "Flow",
    "FullNormal",
    "JointGuide",
    "LowRankNormal",
    "MeanFieldNormal",
    "MixtureOfNormals",
    "NormalGuide",
    "RowBlockNormal",
]
