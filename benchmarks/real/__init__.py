"""Which explanations to believe on real checkpoints: ``make real`` writes docs/results/real.md."""
