"""Outputs: the numbers beside the explained one, as the page shows them."""

from fxplain.views.outputs import ClassNames, explained_text, name_of, target_text, top_classes

__all__ = ["ClassNames", "explained_text", "name_of", "target_text", "top_classes"]
