"""Corpora: every text of a file explained, kept in Parquet, summed up and shown."""

from fxplain.corpora.explainer import CorpusExplainer

__all__ = ["CorpusExplainer"]
