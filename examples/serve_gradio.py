"""A page with a question and a picture's number, and the report of the answer.

Run it with ``python -m examples.serve_gradio``.
"""

import html

import gradio
import torch

import fxplain
from fxplain.demo import digits

model, tokenizer = digits.load_model()
samples = digits.load_samples()


def report(question: str, picture: float) -> str:
    """The report as a frame of its own; Gradio calls this from any of its threads."""
    mosaic = samples[int(picture) % len(samples)].mosaic
    inputs = digits.encode(tokenizer, [question], torch.stack([mosaic]))
    page = fxplain.explain(model, inputs, tokenizer=tokenizer).to_html()
    return f'<iframe style="width: 100%; height: 80vh" srcdoc="{html.escape(page)}"></iframe>'


demo = gradio.Interface(
    report,
    [gradio.Textbox(samples[0].question.text), gradio.Number(0, precision=0)],
    gradio.HTML(),
    title="Which words and patches does the answer draw on?",
)

if __name__ == "__main__":
    report("warm up", 0)  # the model is captured once, before the first visitor
    demo.launch()
