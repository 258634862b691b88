"""Interventions: what a model says when a part of its computation is cut, or another's put there."""

from fxplain.interventions.cut import Cut
from fxplain.interventions.effects import Effects
from fxplain.interventions.intervene import intervene

__all__ = ["Cut", "Effects", "intervene"]
