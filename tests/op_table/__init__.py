"""Calls of ATen operations on real tokens, and which rows of their results depend on which token."""
