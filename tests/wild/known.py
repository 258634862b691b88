"""Why an entry is not right, as far as it is known: said in the page, and expected by the tests."""

__all__ = ["REASONS"]

REASONS: dict[str, str] = {}
