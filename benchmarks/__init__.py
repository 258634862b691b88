"""Timing of explanations, in ratios measured in one run."""
