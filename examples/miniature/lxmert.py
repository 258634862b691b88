"""Experiment 1: the digit questions of the LXMERT, a model with co-attention."""

from examples.miniature import questions as asked
from examples.miniature.experiment import Experiment
from examples.miniature.methods import BASELINES
from examples.tasks import questions

IMAGE = "visual_feats"

LXMERT = Experiment(
    name="lxmert",
    title="LXMERT: digit questions, co-attention",
    model="co-attention (LXMERT)",
    weights=questions.LXMERT_FOLDER,
    about=asked.ABOUT,
    paper=(
        "`generic` is better than all other methods, in positive and negative perturbation, of the "
        "image and of the text."
    ),
    parts=asked.parts(questions.load_lxmert, questions.encode_lxmert, IMAGE),
    columns=asked.columns(IMAGE),
    claims=asked.claims(IMAGE, (*BASELINES, "transformer_attribution")),
    plots={"lxmert-image": ("true", IMAGE), "lxmert-text": ("true", "input_ids")},
)
