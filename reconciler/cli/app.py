"""The command `reconcile`: a run, and the group that all commands belong to."""

from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_command_name
from typer.models import CommandInfo

from reconciler.cli.add_command import add_command
from reconciler.cli.audit_commands import audit_commands
from reconciler.cli.content_commands import content_commands
from reconciler.cli.fund_command import fund_command
from reconciler.cli.index_commands import index_commands
from reconciler.cli.lint_command import lint_command
from reconciler.cli.loop_commands import PlanFormat, loop_commands, run_loop, show_plan
from reconciler.cli.operator_commands import operator_commands
from reconciler.cli.options import (
    AllowRemovals,
    AllowUnpinRepair,
    Base,
    CheckDepth,
    Directory,
    DriftAction,
    Exclude,
    ExitCodeFlag,
    IndexFile,
    Json,
    NoCache,
    Only,
    Propose,
    Prune,
    SourceRoot,
    TargetsFile,
)
from reconciler.cli.reader_commands import reader_commands
from reconciler.cli.seal_command import seal_command
from reconciler.cli.sign_command import sign_command
from reconciler.cli.store_commands import store_commands
from reconciler.cli.verify_command import verify_command
from reconciler.errors import UsageError
from reconciler.index.locations import find_layout
from reconciler.loop.settings import Drift, ProposeMode, RunOptions, Scope
from reconciler.targets.check import Check


class _Commands(TyperGroup):
    """The group of commands. It passes Ctrl-C on, which Typer would turn into an exit code of its own."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command. Raises Abort on Ctrl-C."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise typer.Abort from None


_SETTINGS: dict[str, Any] = {
    "name": "reconcile",
    "rich_markup_mode": None,
    "pretty_exceptions_enable": False,
    "context_settings": {"help_option_names": ["-h", "--help"]},
}
app = typer.Typer(cls=_Commands, **_SETTINGS)


def _show_version(wanted: bool) -> None:
    if wanted:
        from reconciler.version import __version__

        typer.echo(f"reconcile {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def reconcile(
    context: typer.Context,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", "-n", help="Show the plan and change nothing.")
    ] = False,
    exit_code: ExitCodeFlag = False,
    as_json: Json = False,
    version: Annotated[  # noqa: ARG001 - eager: its callback prints and exits
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit."),
    ] = False,
    only: Only = None,
    exclude: Exclude = None,
    check: CheckDepth = Check.QUICK,
    drift: DriftAction = Drift.REPAIR,
    propose: Propose = ProposeMode.WRITE,
    prune: Prune = False,
    allow_removals: AllowRemovals = None,
    allow_unpin_repair: AllowUnpinRepair = False,  # noqa: ARG001  for scripts of earlier versions
    base: Base = None,
    no_cache: NoCache = False,
    directory: Directory = None,
    index: IndexFile = None,
    targets: TargetsFile = None,
    source_root: SourceRoot = None,
) -> int:
    """Keep model weights on IPFS and Filecoin as declared in git.

    Without a command: compare releases/index.yaml with what every target holds, publish what is missing,
    repair what is damaged, and write the resolved CIDs back. With --dry-run: only show the plan.

    Exit codes: 0 in sync, or all changes applied; 1 error; 2 usage error, or invalid index or configuration;
    3 changes are pending (only with --exit-code); 4 refused by a safety or trust rule; 5 some items failed,
    the others were done; 130 interrupted.
    """
    if context.invoked_subcommand is not None:
        _refuse_misplaced(context, context.invoked_subcommand)
        context.obj = directory
        return 0
    layout = find_layout(directory, index, targets, source_root)
    scope = Scope(layout, tuple(only or ()), tuple(exclude or ()), use_cache=not no_cache)
    options = RunOptions(check, drift, propose, prune, allow_removals, base)
    if dry_run:
        style = PlanFormat.JSON if as_json else PlanFormat.TEXT
        return show_plan(scope, options, style, exit_code=exit_code)
    if exit_code:
        raise UsageError(
            "--exit-code reports pending changes, but a run without --dry-run applies them",
            hint="use it with --dry-run, or with `reconcile plan`",
        )
    return run_loop(scope, options, as_json=as_json)


def _refuse_misplaced(context: typer.Context, command: str) -> None:
    """Raise UsageError for an option before the command: only -C takes effect there."""
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if parameter.name != "directory" and source is not None and source.name == "COMMANDLINE":
            raise UsageError(
                f"{parameter.opts[0]} must follow the command {command!r}",
                hint=f"`reconcile {command} {parameter.opts[0]} …`",
            )


for commands in (
    loop_commands,
    operator_commands,
    fund_command,
    reader_commands,
    verify_command,
    sign_command,
    content_commands,
    lint_command,
    add_command,
    index_commands,
    store_commands,
    seal_command,
):
    app.add_typer(commands)
app.add_typer(audit_commands, name="audit")


def app_for(arguments: Sequence[str]) -> typer.Typer:
    """Return `app` with those commands alone whose names are among `arguments`, or all without any.

    Typer builds every command and its options before it looks at the arguments, which takes longer than
    importing Typer.
    """
    chosen = typer.Typer(cls=_Commands, **_SETTINGS)
    chosen.registered_callback = app.registered_callback
    for group in app.registered_groups:
        if isinstance(group.name, str):
            chosen.registered_groups += [group] if group.name in arguments else []
            continue
        for command in group.typer_instance.registered_commands if group.typer_instance else ():
            if _name_of(command) in arguments:
                chosen.registered_commands.append(command)
    return chosen if chosen.registered_commands or chosen.registered_groups else app


def _name_of(command: CommandInfo) -> str:
    return command.name or get_command_name(command.callback.__name__ if command.callback else "")
