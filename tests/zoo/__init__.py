"""The zoo: tiny architectures of `transformers`, each with the truth about its attention."""

from tests.zoo import (
    audio,
    decoders,
    detection,
    moe_ssm,
    multimodal,
    seq2seq,
    text,
    video_time_document,
    vision,
)
from tests.zoo.case import ZooCase

__all__ = ["CASES", "ZooCase"]

CASES: list[ZooCase] = [
    *text.CASES,
    *decoders.CASES,
    *moe_ssm.CASES,
    *seq2seq.CASES,
    *vision.CASES,
    *detection.CASES,
    *multimodal.CASES,
    *audio.CASES,
    *video_time_document.CASES,
]
