"""Experiment 2: the digit questions of the VisualBERT, whose text and image are one sequence."""

from examples.miniature import questions as asked
from examples.miniature.experiment import Experiment
from examples.miniature.methods import BASELINES
from examples.tasks import questions

IMAGE = "visual_embeds"

VISUALBERT = Experiment(
    name="visualbert",
    title="VisualBERT: digit questions, joint self-attention",
    model="joint self-attention (VisualBERT)",
    weights=questions.VISUALBERT_FOLDER,
    about=asked.ABOUT,
    paper=(
        "`generic` is better than the adapted baselines, and about as good as "
        "`transformer_attribution`, which was made for self-attention."
    ),
    parts=asked.parts(questions.load_visualbert, questions.encode_visualbert, IMAGE),
    columns=asked.columns(IMAGE),
    claims=asked.claims(IMAGE, BASELINES),
    plots={"visualbert-image": ("true", IMAGE), "visualbert-text": ("true", "input_ids")},
)
