"""Corpora: every text of a file explained, kept in Parquet, summed up and shown."""

from fxplain.corpora.corpus import Corpus, CorpusRow, load_corpus
from fxplain.corpora.drift import Drift, Moved, compare
from fxplain.corpora.drivers import Driver, by_class, drivers
from fxplain.corpora.explain_corpus import SHARD_ROWS, explain_corpus
from fxplain.corpora.explainer import ACCELERATOR_TOKENS, BATCH_TOKENS, CorpusExplainer
from fxplain.corpora.run import Progress
from fxplain.corpora.summary import Summary, summarise
from fxplain.corpora.viewer import MOST_ROWS, write_report

__all__ = [
    "ACCELERATOR_TOKENS",
    "BATCH_TOKENS",
    "MOST_ROWS",
    "SHARD_ROWS",
    "Corpus",
    "CorpusExplainer",
    "CorpusRow",
    "Drift",
    "Driver",
    "Moved",
    "Progress",
    "Summary",
    "by_class",
    "compare",
    "drivers",
    "explain_corpus",
    "load_corpus",
    "summarise",
    "write_report",
]
