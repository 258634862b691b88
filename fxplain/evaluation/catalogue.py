"""The catalogue: every metric of the library."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fxplain.evaluation import additivity, faithfulness, localisation, sanity
from fxplain.evaluation.metric import Metric

__all__ = ["DEFAULT_METRICS", "METRICS", "SANITY_CHECKS", "SANITY_SAMPLES"]

_PAPER = "Chefer, Gur & Wolf, ICCV 2021, arXiv 2103.15679"
_RISE = "Petsiuk et al. (RISE), BMVC 2018, arXiv 1806.07421"
_ERASER = "DeYoung et al. (ERASER), ACL 2020, arXiv 1911.03429"
_SEGMENTATION = "Guillaumin et al., IJCV 2014 (the data); as in CVPR 2021, arXiv 2012.09838"

METRICS = {
    metric.name: metric
    for metric in (
        Metric(
            "positive",
            _PAPER,
            "lower",
            faithfulness.positive_perturbation,
            "area under the score as the most relevant tokens go first",
        ),
        Metric(
            "negative",
            _PAPER,
            "higher",
            faithfulness.negative_perturbation,
            "area under the score as the least relevant tokens go first",
        ),
        Metric(
            "abpc",
            "Schulz et al., ICLR 2020, arXiv 2001.00396",
            "higher",
            faithfulness.area_between,
            "area between the two perturbation curves: negative less positive",
        ),
        Metric(
            "deletion",
            _RISE,
            "lower",
            faithfulness.deletion,
            "area under the probability as the most relevant tokens go, until none is left",
        ),
        Metric(
            "insertion",
            _RISE,
            "higher",
            faithfulness.insertion,
            "area under the probability as the most relevant tokens come back first",
            axis="tokens inserted",
        ),
        Metric(
            "comprehensiveness",
            _ERASER,
            "higher",
            faithfulness.comprehensiveness,
            "probability lost without the most relevant tokens",
        ),
        Metric(
            "sufficiency",
            _ERASER,
            "lower",
            faithfulness.sufficiency,
            "probability missing with the most relevant tokens alone",
        ),
        Metric(
            "pixel_accuracy",
            _SEGMENTATION,
            "higher",
            localisation.pixel_accuracy,
            "share of pixels on the right side of the threshold",
            joint=False,
            removes=False,
            summary=localisation.mean_of_ratios,
        ),
        Metric(
            "mean_iou",
            _SEGMENTATION,
            "higher",
            localisation.mean_iou,
            "intersection over union of evidence and of the rest, averaged",
            joint=False,
            removes=False,
            summary=localisation.mean_of_ratios,
        ),
        Metric(
            "mean_ap",
            _SEGMENTATION,
            "higher",
            localisation.mean_average_precision,
            "average precision of relevance as a score of each pixel",
            joint=False,
            removes=False,
        ),
        Metric(
            "pointing_game",
            "Zhang et al., IJCV 2018, arXiv 1608.00507",
            "higher",
            localisation.pointing_game,
            "whether the most relevant place is evidence",
            joint=False,
            removes=False,
        ),
        Metric(
            "relevance_mass",
            "Arras et al., Information Fusion 2022, arXiv 2003.07258",
            "higher",
            localisation.relevance_mass,
            "share of positive relevance on the evidence",
            joint=False,
            removes=False,
        ),
        Metric(
            "randomisation",
            "Adebayo et al., NeurIPS 2018, arXiv 1810.03292",
            "lower",
            sanity.randomisation,
            "rank correlation with explanations of randomised models",
            axis="weights randomised, from the top",
            removes=False,
        ),
        Metric(
            "random_target",
            "Sixt, Granz & Landgraf, ICML 2020, arXiv 1912.09818",
            "lower",
            sanity.random_target,
            "rank correlation with the explanation of another class",
            removes=False,
        ),
        Metric(
            "stability",
            "Yeh et al., NeurIPS 2019, arXiv 1901.09392 (average sensitivity)",
            "lower",
            sanity.stability,
            "relative change of relevance under small noise in the input",
            removes=False,
        ),
        Metric(
            "max_sensitivity",
            "Yeh et al., NeurIPS 2019, arXiv 1901.09392",
            "lower",
            sanity.max_sensitivity,
            "the largest relative change of relevance under small noise in the input",
            removes=False,
        ),
        Metric(
            "sparseness",
            "Chalasani et al., ICML 2020, arXiv 1810.06583 (Gini index)",
            "higher",
            sanity.sparseness,
            "how few tokens hold the relevance: 0 where all share it evenly",
            removes=False,
        ),
        Metric(
            "completeness",
            "Sundararajan et al., ICML 2017, arXiv 1703.01365",
            "lower",
            additivity.completeness,
            "how far relevance is from adding up to what the score loses without the tokens",
        ),
        Metric(
            "datamodelling",
            "Park et al. (TRAK), ICML 2023, arXiv 2303.14186; of tokens as in arXiv 2409.00729",
            "higher",
            additivity.datamodelling,
            "rank correlation of summed relevance with the score, without random halves of the tokens",
        ),
        Metric(
            "top_k_drop",
            "Cohen-Wang et al. (ContextCite), NeurIPS 2024, arXiv 2409.00729",
            "higher",
            additivity.top_k_drop,
            "how much of the score goes with the k most relevant tokens",
        ),
    )
}

DEFAULT_METRICS = ("positive", "negative", "abpc")

SANITY_CHECKS: Mapping[str, Mapping[str, Any]] = {
    "randomisation": {"levels": 2},
    "random_target": {},
}
"""Beside the default metrics, cheaply: of the first samples alone, and left out where they fail."""

SANITY_SAMPLES = 32
