"""The group of all commands, which imports the module of a command only when that command is needed.

`--help` lists the commands from the table here: importing all modules and building every option takes longer
than importing Typer. A test compares the table with the modules.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command, get_command_name
from typer.models import CommandInfo


class ListedCommand(NamedTuple):
    """The module of `reconciler.cli` that defines a command, in a Typer with the name of the module."""

    module: str
    summary: str


COMMANDS = {
    "plan": ListedCommand("loop_commands", "Show what a run would do, and change nothing."),
    "apply": ListedCommand("loop_commands", "Carry out a saved plan, with the options it was made with."),
    "status": ListedCommand(
        "operator_commands", "Show what every target holds of every version, and how that was checked."
    ),
    "doctor": ListedCommand(
        "operator_commands",
        "Check that every target can be reached, has a supported version and grants the needed permissions.",
    ),
    "adopt": ListedCommand(
        "operator_commands", "List foreign pins of versions in the index; with --take, adopt them."
    ),
    "fund": ListedCommand(
        "fund_command",
        "Show what the account that pays for a target lacks, and supply it; or end its storage.",
    ),
    "resolve": ListedCommand("reader_commands", "Print the CID of a version."),
    "fetch": ListedCommand(
        "reader_commands", "Fetch a version, verify every block, and create its directory atomically."
    ),
    "get": ListedCommand("reader_commands", "Fetch a CID from the targets and verify every block."),
    "lock": ListedCommand(
        "reader_commands", "Record which version and CID each reference resolves to, for `fetch --locked`."
    ),
    "verify": ListedCommand(
        "verify_command", "Verify a directory or a version against the index, reading every byte."
    ),
    "sign": ListedCommand("sign_command", "Sign released versions: who released which bytes."),
    "identify": ListedCommand("content_commands", "Compute the root CID of a directory, offline."),
    "export": ListedCommand(
        "content_commands", "Write a version as one CAR file that any IPFS tool can import."
    ),
    "pieces": ListedCommand(
        "content_commands",
        "Print the Filecoin piece CIDs of a version, one for each of its CARs, or the one of a file.",
    ),
    "lint": ListedCommand(
        "lint_command",
        "Report what should not enter a release: pointers, missing shards, credentials, unusable weights.",
    ),
    "add": ListedCommand("add_command", "Add a version to the index and change no other line."),
    "init": ListedCommand(
        "index_commands", "Create releases/index.yaml and releases/targets.yaml with explanatory comments."
    ),
    "check": ListedCommand(
        "index_commands",
        "Check the index, the targets file and the records, offline and without the weights.",
    ),
    "log": ListedCommand(
        "index_commands",
        "Show who released which version of a model and when, newest first, from the index's git history.",
    ),
    "serve": ListedCommand(
        "store_commands",
        "Serve stores over HTTP as an IPFS gateway: verifiable blocks and CARs, and plain files.",
    ),
    "import": ListedCommand(
        "store_commands", "Import a CAR made by another program into a store and verify every block."
    ),
    "put": ListedCommand(
        "store_commands", "Publish a file or directory without an index entry, and print its CID."
    ),
    "seal": ListedCommand(
        "seal_command", "Make the key of a sealed model, or wrap it again after a change of its recipients."
    ),
    "audit": ListedCommand(
        "audit_commands", "Recompute the audit log, and compare it with its git history and the index."
    ),
}  #: by name, in the order of `--help`

SETTINGS: dict[str, Any] = {
    "name": "reconcile",
    "rich_markup_mode": None,
    "pretty_exceptions_enable": False,
    "context_settings": {"help_option_names": ["-h", "--help"]},
}


class CommandGroup(TyperGroup):
    """The group of commands. It passes Ctrl-C on, which Typer would turn into an exit code of its own."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands = _LazyCommands()  # type: ignore[assignment] # it is only read

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """List the commands by the table."""
        listed = [TyperCommand(name, help=command.summary) for name, command in COMMANDS.items()]
        TyperGroup(commands=listed).format_commands(ctx, formatter)

    def invoke(self, ctx: Any) -> Any:
        """Run the command. Raises Abort on Ctrl-C."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise typer.Abort from None


class _LazyCommands(Mapping[str, Any]):
    """All commands by name; each is built when it is looked up."""

    def __init__(self) -> None:
        self._built: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._built:
            self._built[name] = _build(name, COMMANDS[name].module)
        return self._built[name]

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)


def _build(name: str, module: str) -> Any:
    """Return the command `name` of `module`, or its group when it has commands of its own."""
    commands: typer.Typer = getattr(import_module(f"reconciler.cli.{module}"), module)
    chosen = typer.Typer(add_completion=False, **SETTINGS)
    if commands.registered_callback is not None:
        chosen.add_typer(commands, name=name)
        return get_command(chosen).commands[name]  # type: ignore[attr-defined] # a group
    chosen.registered_commands = [one for one in commands.registered_commands if _name_of(one) == name]
    return get_command(chosen)


def _name_of(command: CommandInfo) -> str:
    return command.name or get_command_name(command.callback.__name__ if command.callback else "")
