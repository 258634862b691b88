"""Serving: a model explained live in a browser."""

from fxplain.serving.app import create_app
from fxplain.serving.desk import Desk
from fxplain.serving.limits import Limits

__all__ = ["Desk", "Limits", "create_app"]
