"""HTML: results as one self-contained page that opens from disk and can be shared."""

from fxplain.html.page import to_html, to_notebook

__all__ = ["to_html", "to_notebook"]
