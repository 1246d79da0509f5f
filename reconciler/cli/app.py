"""The command `reconcile` and its subcommands; each only maps flags to a function in a file of its own."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from reconciler.cli import options
from reconciler.cli.index_app import index_app
from reconciler.cli.options import ExitCodeFlag, Json, takes
from reconciler.cli.reader_app import reader_app
from reconciler.cli.serve_app import serve_app
from reconciler.errors import UsageError
from reconciler.loop.settings import Settings


class _Commands(TyperGroup):
    """Typer makes a bare exit code of Ctrl-C; here it goes on to whoever tells it."""

    def invoke(self, ctx: Any) -> Any:
        """Run what was asked for."""
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

DryRun = Annotated[bool, typer.Option("--dry-run", "-n", help="Show the plan, change nothing.")]


def _show_version(wanted: bool) -> None:
    if wanted:
        from reconciler.version import __version__

        typer.echo(f"reconcile {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
@takes(options.settings, lazily=True)
def reconcile(
    context: typer.Context,
    settings: Callable[[], Settings],
    dry_run: DryRun = False,
    exit_code: ExitCodeFlag = False,
    as_json: Json = False,
    version: Annotated[  # noqa: ARG001 - eager: its callback prints and leaves
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> int:
    """Keep model weights alive on IPFS and Filecoin, as git says.

    Without a command: compare releases/index.yaml with what every target really holds, publish what is
    missing, repair what was damaged, and write the resolved CIDs back. With --dry-run: only show the plan.

    Exit codes: 0 in sync or all applied; 1 an error; 2 wrong usage, or an invalid index; 3 changes
    are pending (with --exit-code); 4 refused by a safety rule; 5 some items failed, the others were done.
    """
    if context.invoked_subcommand is not None:
        _refuse_misplaced(context, context.invoked_subcommand)
        given = context.params["directory"]
        context.obj = Path(given) if given is not None else None
        return 0
    from reconciler.cli.loop_commands import run_loop, show_plan

    if dry_run:
        return show_plan(settings(), as_json=as_json, exit_code=exit_code)
    if exit_code:
        raise UsageError(
            "--exit-code asks about pending changes, and a run closes them",
            hint="use it with --dry-run, or with `reconcile plan`",
        )
    return run_loop(settings(), as_json=as_json)


def _refuse_misplaced(context: typer.Context, command: str) -> None:
    """Only -C may stand before a command; anything else there would be silently ignored."""
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if parameter.name != "directory" and source is not None and source.name == "COMMANDLINE":
            raise UsageError(
                f"{parameter.opts[0]} stands before the command {command!r}",
                hint=f"put it behind: `reconcile {command} {parameter.opts[0]} …`",
            )


@app.command()
@takes(options.settings)
def plan(
    settings: Settings,
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
) -> int:
    """Show what a run would do, and change nothing.

    A plan saved with -o is carried out exactly, or refused, by `reconcile apply FILE`.
    """
    from reconciler.cli.loop_commands import show_plan

    return show_plan(
        settings, as_json=as_json, output=output, exit_code=exit_code, markdown=markdown, matrix=matrix
    )


@app.command()
@takes(options.settings)
def apply(
    settings: Settings,
    plan_file: Annotated[Path, typer.Argument(metavar="PLAN", help="A file written by `reconcile plan -o`.")],
    as_json: Json = False,
) -> int:
    """Carry out a saved plan: exactly that, or nothing.

    Refused (exit 4) when the index, the targets or the world changed since the plan was made. Give the same
    options as for the plan.
    """
    from reconciler.cli.loop_commands import run_loop
    from reconciler.loop.saved import read_saved

    return run_loop(settings, as_json=as_json, saved=read_saved(plan_file))


@app.command()
@takes(options.settings)
def status(
    settings: Settings,
    deals: Annotated[bool, typer.Option("--deals", help="Show every piece and every deal as well.")] = False,
    probe: Annotated[
        bool, typer.Option("--probe", help="Ask the providers that routing names for leaves, and hash them.")
    ] = False,
    router: Annotated[
        str | None, typer.Option("--router", metavar="URL", help="The delegated router that --probe asks.")
    ] = None,
    allow_private: Annotated[
        bool,
        typer.Option("--allow-private", help="Probe addresses of this machine and of private networks too."),
    ] = False,
    exit_code: ExitCodeFlag = False,
    as_json: Json = False,
) -> int:
    """Show what every target holds of every version, and how that was checked."""
    from reconciler.cli.status_command import Probing, show_status

    if not probe and (router is not None or allow_private):
        raise UsageError("--router and --allow-private go with --probe")
    probing = Probing(router, allow_private) if probe else None
    return show_status(settings, deals=deals, probing=probing, as_json=as_json, exit_code=exit_code)


@app.command()
@takes(options.settings)
def doctor(
    settings: Settings,
    forge: Annotated[
        bool,
        typer.Option(
            "--forge", help="Examine the forge instead: what its token may do, and what is missing."
        ),
    ] = False,
    as_json: Json = False,
) -> int:
    """Examine every target: reachable, right version, right permissions, and what to do where not."""
    from reconciler.cli.doctor_command import show_access, show_findings

    return show_access(as_json=as_json) if forge else show_findings(settings, as_json=as_json)


@app.command()
@takes(options.settings)
def adopt(
    settings: Settings,
    take: Annotated[
        bool, typer.Option("--take", help="Take the listed pins over: put our labels on them.")
    ] = False,
    every: Annotated[bool, typer.Option("--all", help="List every foreign pin, not only versions.")] = False,
    as_json: Json = False,
) -> int:
    """List pins that others made of versions in the index, and take them over when told to."""
    from reconciler.cli.adopt_command import adopt_pins

    return adopt_pins(settings, take=take, every=every, as_json=as_json)


app.add_typer(reader_app)
app.add_typer(index_app)
app.add_typer(serve_app)
