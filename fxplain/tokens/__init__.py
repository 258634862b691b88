"""Tokens: which token every element of every value belongs to."""

from fxplain.tokens.batching import contradicted, counted_apart, rebatched, unsettled
from fxplain.tokens.book import Birth, TokenBook
from fxplain.tokens.elements import Argument
from fxplain.tokens.flow import TokenFlow
from fxplain.tokens.op_table import moves, operation, reduces
from fxplain.tokens.scores import is_elementwise
from fxplain.tokens.tag import NO_TOKEN, Level, Tag, Tags, pack, tokens_in, versions_in
from fxplain.tokens.updates import AttentionSite, Mixing, RejectedSoftmax, RouteSite, Update, framed
from fxplain.tokens.values import content_inputs
from fxplain.tokens.versions import IDENTITY, Versions
from fxplain.tokens.walk import follow_tokens

__all__ = [
    "IDENTITY",
    "NO_TOKEN",
    "Argument",
    "AttentionSite",
    "Birth",
    "Level",
    "Mixing",
    "RejectedSoftmax",
    "RouteSite",
    "Tag",
    "Tags",
    "TokenBook",
    "TokenFlow",
    "Update",
    "Versions",
    "content_inputs",
    "contradicted",
    "counted_apart",
    "follow_tokens",
    "framed",
    "is_elementwise",
    "moves",
    "operation",
    "pack",
    "rebatched",
    "reduces",
    "tokens_in",
    "unsettled",
    "versions_in",
]
