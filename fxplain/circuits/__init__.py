"""Circuits: the part of a model that is enough for what it does."""

from fxplain.circuits.circuit import circuit
from fxplain.circuits.components import Unit
from fxplain.circuits.network import Edge
from fxplain.circuits.result import Circuit

__all__ = ["Circuit", "Edge", "Unit", "circuit"]
