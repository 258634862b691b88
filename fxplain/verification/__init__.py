"""Verification: whether the picture of a model is true, tried on the model itself."""

from fxplain.verification.check import LEVELS, check_program
from fxplain.verification.law import Culprit, Law
from fxplain.verification.verification import Fault, LawResult, Verification

__all__ = ["LEVELS", "Culprit", "Fault", "Law", "LawResult", "Verification", "check_program"]
