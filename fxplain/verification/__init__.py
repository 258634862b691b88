"""Verification: whether the picture of a model is true, tried on the model itself."""

from fxplain.verification.law import Culprit, Law

__all__ = ["Culprit", "Law"]
