"""HTML: explanations, generations and graphs as pages that need nothing else."""

from fxplain.html.comparison import compare
from fxplain.html.page import to_html, to_notebook

__all__ = ["compare", "to_html", "to_notebook"]
