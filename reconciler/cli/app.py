"""The command `reconcile`: a run of the loop, unless a command of the group follows."""

from typing import Annotated

import typer

from reconciler.cli.command_group import SETTINGS, CommandGroup
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
from reconciler.errors import UsageError
from reconciler.index.locations import find_layout
from reconciler.loop.settings import Drift, ProposeMode, RunOptions, Scope
from reconciler.targets.check import Check

app = typer.Typer(cls=CommandGroup, **SETTINGS)


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
        from reconciler.cli.loop_commands import PlanFormat, show_plan

        style = PlanFormat.JSON if as_json else PlanFormat.TEXT
        return show_plan(scope, options, style, exit_code=exit_code)
    if exit_code:
        raise UsageError(
            "--exit-code reports pending changes, but a run without --dry-run applies them",
            hint="use it with --dry-run, or with `reconcile plan`",
        )
    from reconciler.cli.loop_commands import run_loop

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
