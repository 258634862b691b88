"""Tiny random models of well-known architectures, each with the oracle's hand-written wiring."""

from tests.architectures import cross_attention, self_attention, windows

CASES = [*self_attention.CASES, *cross_attention.CASES, *windows.CASES]
