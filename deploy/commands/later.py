"""Commands that are listed by their names and lines, and loaded when they are asked for.

A command that prints one token needs no pydicom, and the list of commands needs no SQLAlchemy.
"""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command, get_group


class Later(NamedTuple):
    """Where a command is, as ``module:name`` (a function, or an app of several), and its line."""

    target: str
    help: str


class _Listed(TyperCommand):
    """Stands for a command until somebody asks for it."""

    def __init__(self, name: str, later: Later) -> None:
        super().__init__(name, help=later.help, callback=None)
        self._later = later

    def load(self) -> TyperCommand | TyperGroup:
        """Import the command's module and return the command."""
        module, _, name = self._later.target.partition(":")
        found = getattr(import_module(f"deploy.commands.{module}"), name)
        if isinstance(found, typer.Typer):
            command = get_group(found)
            command.help = self._later.help
        else:
            command = _alone(found)
        command.name = self.name
        return command

    def make_context(self, *given: Any, **more: Any) -> Any:  # noqa: ANN401 - as its base has it
        """Hand over to the command itself, which the context then belongs to."""
        return self.load().make_context(*given, **more)


def _alone(function: Callable[..., None]) -> Any:  # noqa: ANN401 - Typer names no public type
    app = typer.Typer(add_completion=False)
    app.command()(function)
    return get_command(app)


def group(commands: Mapping[str, Later]) -> type[TyperGroup]:
    """Return the kind of a group that has these commands."""

    class Group(TyperGroup):
        def __init__(self, **given: Any) -> None:  # noqa: ANN401 - as its base has it
            super().__init__(**given)
            for name, later in commands.items():
                self.add_command(_Listed(name, later))

    return Group
