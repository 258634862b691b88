"""Methods: how a node's map is weighed and how maps are accumulated."""

from fxplain.methods.registry import Method, methods, resolve_method
from fxplain.methods.relevancy import Relevancies, RowSet

__all__ = ["Method", "Relevancies", "RowSet", "methods", "resolve_method"]
