"""The group of commands: an option that belongs to another command is told where it belongs."""

from __future__ import annotations

from typing import Any

from typer.core import TyperGroup

__all__ = ["Commands"]


class Commands(TyperGroup):
    """Commands that know each other's options."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command; an unknown option is looked for among the other commands' own."""
        try:
            return super().invoke(ctx)
        except Exception as error:
            name = getattr(error, "option_name", None)
            owners = self._owners(str(name)) if name else []
            if owners and hasattr(error, "message"):
                error.message += f". It is an option of fxplain {_listed(owners)}."
            raise

    def _owners(self, option: str) -> list[str]:
        return [
            name
            for name, command in self.commands.items()
            if any(option in parameter.opts for parameter in command.params)
        ]


def _listed(names: list[str]) -> str:
    """Names as a sentence has them: "a, b and c"."""
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last
