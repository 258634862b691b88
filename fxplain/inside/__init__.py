"""Inside: an explanation taken apart, by head, layer, chain of attention."""

from fxplain.inside.flow_graph import Flow, FlowEdge, FlowToken, flow
from fxplain.inside.head_of_layers import Lens, lens, logit_lens
from fxplain.inside.head_relevance import HeadRelevance, HeadShare, heads
from fxplain.inside.layer_relevance import LayerRelevance, layers
from fxplain.inside.pairs_of_tokens import Pair, Pairs, pairs
from fxplain.inside.score_terms import (
    Contribution,
    Contributions,
    contributions,
    direct_contributions,
)
from fxplain.inside.strongest_paths import Hop, Path, Paths, paths
from fxplain.inside.token_names import Token

__all__ = [
    "Contribution",
    "Contributions",
    "Flow",
    "FlowEdge",
    "FlowToken",
    "HeadRelevance",
    "HeadShare",
    "Hop",
    "LayerRelevance",
    "Lens",
    "Pair",
    "Pairs",
    "Path",
    "Paths",
    "Token",
    "contributions",
    "direct_contributions",
    "flow",
    "heads",
    "layers",
    "lens",
    "logit_lens",
    "pairs",
    "paths",
]
