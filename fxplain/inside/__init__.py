"""Inside: an explanation taken apart, by head, layer, chain of attention."""

from fxplain.inside.head_relevance import HeadRelevance, HeadShare, heads
from fxplain.inside.layer_relevance import LayerRelevance, layers

__all__ = ["HeadRelevance", "HeadShare", "LayerRelevance", "heads", "layers"]
