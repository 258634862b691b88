"""The paper's experiments in miniature, on the small models that ship: see docs/results.md."""
