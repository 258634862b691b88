"""Experiment 1: the digit questions of the LXMERT, a model with co-attention."""

from examples.miniature.methods import BASELINES
from examples.miniature.questions import experiment
from examples.tasks import questions

LXMERT = experiment(
    name="lxmert",
    kind="co-attention",
    model="LXMERT",
    weights=questions.LXMERT_FOLDER,
    paper=(
        "`generic` is better than all other methods, in positive and negative perturbation, of the "
        "image and of the text."
    ),
    load=questions.load_lxmert,
    encode=questions.encode_lxmert,
    image="visual_feats",
    others=(*BASELINES, "transformer_attribution"),
)
