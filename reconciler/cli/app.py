"""The command `reconcile`: the loop without a command, and the group that all commands belong to."""

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from reconciler.cli.content_commands import content_commands
from reconciler.cli.index_commands import index_commands
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
from reconciler.cli.store_commands import store_commands
from reconciler.cli.verify_command import verify_command
from reconciler.errors import UsageError
from reconciler.index.layout import find_layout
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


app = typer.Typer(
    name="reconcile",
    cls=_Commands,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


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
    allow_unpin_repair: AllowUnpinRepair = False,
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
    3 changes are pending (only with --exit-code); 4 refused by a safety rule; 5 some items failed, the others
    were done; 130 interrupted.
    """
    if context.invoked_subcommand is not None:
        _refuse_misplaced(context, context.invoked_subcommand)
        context.obj = directory
        return 0
    from reconciler.cli.loop_commands import run_loop, show_plan

    layout = find_layout(directory, index, targets, source_root)
    scope = Scope(layout, tuple(only or ()), tuple(exclude or ()), use_cache=not no_cache)
    options = RunOptions(check, drift, propose, prune, allow_removals, allow_unpin_repair, base)
    if dry_run:
        return show_plan(scope, options, as_json=as_json, exit_code=exit_code)
    if exit_code:
        raise UsageError(
            "--exit-code reports pending changes, which a run applies",
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


@app.command()
def plan(
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FILE", help="Save the plan for `reconcile apply FILE`."),
    ] = None,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print Markdown, as for a pull request.")
    ] = False,
    matrix: Annotated[
        bool,
        typer.Option("--matrix", help="Print what needs publishing as JSON for a job's strategy matrix."),
    ] = False,
    exit_code: ExitCodeFlag = False,
    as_json: Json = False,
    only: Only = None,
    exclude: Exclude = None,
    check: CheckDepth = Check.QUICK,
    drift: DriftAction = Drift.REPAIR,
    propose: Propose = ProposeMode.WRITE,
    prune: Prune = False,
    allow_removals: AllowRemovals = None,
    allow_unpin_repair: AllowUnpinRepair = False,
    base: Base = None,
    no_cache: NoCache = False,
    directory: Directory = None,
    index: IndexFile = None,
    targets: TargetsFile = None,
    source_root: SourceRoot = None,
) -> int:
    """Show what a run would do, and change nothing.

    `reconcile apply FILE` carries out exactly the plan saved with -o, or refuses.
    """
    from reconciler.cli.loop_commands import show_plan

    layout = find_layout(directory, index, targets, source_root)
    scope = Scope(layout, tuple(only or ()), tuple(exclude or ()), use_cache=not no_cache)
    options = RunOptions(check, drift, propose, prune, allow_removals, allow_unpin_repair, base)
    return show_plan(
        scope,
        options,
        as_json=as_json,
        output=output,
        exit_code=exit_code,
        markdown=markdown,
        matrix=matrix,
    )


@app.command()
def apply(
    plan_file: Annotated[
        Path, typer.Argument(metavar="PLAN", help="File written by `reconcile plan -o FILE`.")
    ],
    as_json: Json = False,
    no_cache: NoCache = False,
    directory: Directory = None,
    index: IndexFile = None,
    targets: TargetsFile = None,
    source_root: SourceRoot = None,
) -> int:
    """Carry out exactly a saved plan, with the options it was made with, or refuse.

    Exits with 4 when the index, the targets or what they hold changed since the plan was made.
    """
    from reconciler.cli.loop_commands import run_loop
    from reconciler.loop.saved import read_saved

    layout = find_layout(directory, index, targets, source_root)
    saved = read_saved(plan_file)
    scope = saved.scope(layout, use_cache=not no_cache)
    return run_loop(scope, saved.options, as_json=as_json, saved=saved)


@app.command()
def status(
    deals: Annotated[bool, typer.Option("--deals", help="Also show every piece and every deal.")] = False,
    probe: Annotated[
        bool,
        typer.Option(
            "--probe", help="Request random blocks from the providers that a router lists, and verify them."
        ),
    ] = False,
    router: Annotated[
        str | None,
        typer.Option("--router", metavar="URL", help="Delegated router to use with --probe."),
    ] = None,
    allow_private: Annotated[
        bool,
        typer.Option("--allow-private", help="Also probe loopback and private addresses."),
    ] = False,
    exit_code: ExitCodeFlag = False,
    as_json: Json = False,
    only: Only = None,
    exclude: Exclude = None,
    check: CheckDepth = Check.QUICK,
    no_cache: NoCache = False,
    directory: Directory = None,
    index: IndexFile = None,
    targets: TargetsFile = None,
    source_root: SourceRoot = None,
) -> int:
    """Show what every target holds of every version, and how that was checked."""
    from reconciler.cli.status_command import Probing, show_status

    if not probe and (router is not None or allow_private):
        raise UsageError("--router and --allow-private require --probe")
    layout = find_layout(directory, index, targets, source_root)
    scope = Scope(layout, tuple(only or ()), tuple(exclude or ()), use_cache=not no_cache)
    probing = Probing(router, allow_private) if probe else None
    return show_status(scope, check, deals=deals, probing=probing, as_json=as_json, exit_code=exit_code)


@app.command()
def doctor(
    forge: Annotated[
        bool,
        typer.Option("--forge", help="Check the forge instead: what its token may do, and what is missing."),
    ] = False,
    as_json: Json = False,
    only: Only = None,
    exclude: Exclude = None,
    directory: Directory = None,
    index: IndexFile = None,
    targets: TargetsFile = None,
) -> int:
    """Check that every target can be reached, has a supported version and grants the needed permissions."""
    from reconciler.cli.doctor_command import show_access, show_findings

    layout = find_layout(directory, index, targets)
    if forge:
        return show_access(as_json=as_json)
    return show_findings(Scope(layout, tuple(only or ()), tuple(exclude or ())), as_json=as_json)


@app.command()
def adopt(
    take: Annotated[
        bool, typer.Option("--take", help="Adopt the listed pins: relabel them as pins of this index.")
    ] = False,
    every: Annotated[
        bool, typer.Option("--all", help="List every foreign pin, not only pins of versions.")
    ] = False,
    as_json: Json = False,
    only: Only = None,
    exclude: Exclude = None,
    check: CheckDepth = Check.QUICK,
    directory: Directory = None,
    index: IndexFile = None,
    targets: TargetsFile = None,
) -> int:
    """List pins of versions in the index that the reconciler did not make, and adopt them with --take."""
    from reconciler.cli.adopt_command import show_foreign_pins

    layout = find_layout(directory, index, targets)
    scope = Scope(layout, tuple(only or ()), tuple(exclude or ()))
    return show_foreign_pins(scope, check, take=take, every=every, as_json=as_json)


for commands in (reader_commands, verify_command, content_commands, index_commands, store_commands):
    app.add_typer(commands)
