"""Corpora: every text of a file explained, kept in Parquet, summed up and shown."""

from fxplain.corpora.corpus import Corpus, CorpusRow, load_corpus
from fxplain.corpora.explain_corpus import Progress, explain_corpus
from fxplain.corpora.explainer import CorpusExplainer

__all__ = ["Corpus", "CorpusExplainer", "CorpusRow", "Progress", "explain_corpus", "load_corpus"]
