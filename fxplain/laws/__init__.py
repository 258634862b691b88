"""Laws: `fxplain.verify` tries on a model what must hold for every explanation."""

from fxplain.laws.verify import verify

__all__ = ["verify"]
