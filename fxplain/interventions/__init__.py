"""Interventions: what a model says when a part of its computation is cut, or another's put there."""

from fxplain.interventions.check import Check, Claim, check
from fxplain.interventions.cut import Cut
from fxplain.interventions.effects import Effects
from fxplain.interventions.intervene import intervene
from fxplain.interventions.worded import intervene_on

__all__ = ["Check", "Claim", "Cut", "Effects", "check", "intervene", "intervene_on"]
