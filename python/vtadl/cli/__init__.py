"""The `vtadl` command."""

from vtadl.cli.commands import main

__all__ = ["main"]
