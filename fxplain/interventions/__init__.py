"""Interventions: what a model says when a part of its computation is cut, or another's put there."""

from fxplain.interventions.check import Check, Claim, check
from fxplain.interventions.cut import Cut
from fxplain.interventions.effects import Effects
from fxplain.interventions.intervene import intervene

__all__ = ["Check", "Claim", "Cut", "Effects", "check", "intervene"]
