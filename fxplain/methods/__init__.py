"""Methods: how a node's map is weighed and how maps are accumulated."""

from fxplain.methods.accumulation import Accumulation, RowSet
from fxplain.methods.black_box import (
    Attribution,
    kernel_shap,
    leave_one_out,
    lime,
    occlusion,
    permutation_shap,
    sparse_linear,
)
from fxplain.methods.catalogue import AUTOMATIC, PRESETS
from fxplain.methods.evidence import Biases, BornTokens, Evidence, Needs
from fxplain.methods.method import Method, Option
from fxplain.methods.node_evidence import NodeEvidence
from fxplain.methods.node_maps import NodeMap, NodeMaps
from fxplain.methods.registry import (
    AnyMethod,
    every_method,
    method_named,
    methods,
    register_method,
    resolve_method,
    smoothing_methods,
    split_options,
    unit_methods,
)
from fxplain.methods.relevancy import Relevancies
from fxplain.methods.rows import RelevancyRows, RowShare, Starts, starts_of
from fxplain.methods.smoothing import Smoothing
from fxplain.methods.tokens import TokenScores
from fxplain.methods.unit_methods import Place, UnitMethod, windows_of

__all__ = [
    "AUTOMATIC",
    "PRESETS",
    "Accumulation",
    "AnyMethod",
    "Attribution",
    "Biases",
    "BornTokens",
    "Evidence",
    "Method",
    "Needs",
    "NodeEvidence",
    "NodeMap",
    "NodeMaps",
    "Option",
    "Place",
    "Relevancies",
    "RelevancyRows",
    "RowSet",
    "RowShare",
    "Smoothing",
    "Starts",
    "TokenScores",
    "UnitMethod",
    "every_method",
    "kernel_shap",
    "leave_one_out",
    "lime",
    "method_named",
    "methods",
    "occlusion",
    "permutation_shap",
    "register_method",
    "resolve_method",
    "smoothing_methods",
    "sparse_linear",
    "split_options",
    "starts_of",
    "unit_methods",
    "windows_of",
]
