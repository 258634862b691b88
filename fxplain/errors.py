"""One tree of exceptions for everything that fxplain raises on purpose."""

from __future__ import annotations

__all__ = [
    "CaptureError",
    "ChangedModelError",
    "EvaluationError",
    "FxplainError",
    "InputError",
    "LoadError",
    "MethodError",
    "MissingExtraError",
    "ModalityError",
    "NoAttentionError",
    "NoGradientError",
    "NonFiniteError",
    "PlotError",
    "SaveError",
    "TargetError",
    "TaskError",
    "TrainingModeError",
    "VerificationError",
]


class FxplainError(Exception):
    """Base class of every error that fxplain raises on purpose."""


class InputError(FxplainError, ValueError):
    """The model inputs are missing, misnamed, empty, or of a wrong type, dtype or device."""


class TargetError(FxplainError, ValueError):
    """The target does not name one number of the model's output per sample."""


class TaskError(FxplainError, ValueError):
    """The task is unknown, cannot be told from the model's config, or is not one for this model."""


class TrainingModeError(FxplainError, RuntimeError):
    """The model is in training mode, in which dropout makes every explanation a random one."""


class CaptureError(FxplainError, RuntimeError):
    """No route could capture the model's computation as a graph."""


class ChangedModelError(FxplainError, RuntimeError):
    """The model or its inputs changed since the explanation that is looked into was made."""


class NoAttentionError(FxplainError, ValueError):
    """The captured graph has no attention node on the way to the target."""


class NoGradientError(FxplainError, RuntimeError):
    """The explained output does not depend on any attention node through differentiable operations."""


class NonFiniteError(FxplainError, ValueError):
    """The model's output holds NaN or infinite values where it is explained."""


class VerificationError(FxplainError, RuntimeError):
    """What was detected in the model contradicts what it computes (asked with ``strict=True``)."""


class MethodError(FxplainError, ValueError):
    """The explanation method is unknown or does not apply to this model."""


class ModalityError(FxplainError, KeyError):
    """A modality was asked for that the explanation does not have."""

    def __str__(self) -> str:  # KeyError would print the message's repr
        return str(self.args[0]) if self.args else ""


class LoadError(FxplainError, ValueError):
    """A model, processor or saved explanation could not be loaded."""


class PlotError(FxplainError, ValueError):
    """The asked picture does not fit: no grid, no boxes, no such sample."""


class SaveError(FxplainError, OSError):
    """A result could not be written: the path is a folder, lies in none, or may not be written to."""


class MissingExtraError(FxplainError, ImportError):
    """Something needs a package that one of fxplain's extras installs."""


class EvaluationError(FxplainError, ValueError):
    """A metric, removal or score is unknown, or does not apply to this model and data."""
