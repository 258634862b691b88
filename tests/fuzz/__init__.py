"""Random transformers in random styles, each with its own account of what explaining it should give."""
