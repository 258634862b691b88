"""Experiment 2: the digit questions of the VisualBERT, whose text and image are one sequence."""

from examples.miniature.methods import BASELINES
from examples.miniature.questions import experiment
from examples.tasks import questions

VISUALBERT = experiment(
    name="visualbert",
    kind="joint self-attention",
    model="VisualBERT",
    weights=questions.VISUALBERT_FOLDER,
    paper=(
        "`generic` is better than the adapted baselines, and about as good as "
        "`transformer_attribution`, which was made for self-attention."
    ),
    load=questions.load_visualbert,
    encode=questions.encode_visualbert,
    image="visual_embeds",
    others=BASELINES,
)
