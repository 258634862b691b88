"""What an explanation costs, in ratios measured in one run: ``python -m benchmarks``."""
