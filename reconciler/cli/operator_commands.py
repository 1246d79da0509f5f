"""Commands that inspect targets apart from a run: status, doctor, adopt."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from reconciler.cli import output as out
from reconciler.cli.interrupts import loaded_workspace
from reconciler.cli.options import (
    CheckDepth,
    Directory,
    Exclude,
    ExitCodeFlag,
    IndexFile,
    Json,
    NoCache,
    Only,
    SourceRoot,
    TargetsFile,
)
from reconciler.errors import ExitCode, UsageError
from reconciler.index.locations import find_layout
from reconciler.loop.settings import Scope
from reconciler.render import documents
from reconciler.render.words import count, plain
from reconciler.targets.check import Check

if TYPE_CHECKING:
    from reconciler.forges.interface import Access
    from reconciler.loop.inspection import DoctorFinding, ForeignPin
    from reconciler.loop.status import Probed
    from reconciler.loop.upstream_finding import UpstreamFinding
    from reconciler.loop.workspace import Workspace
    from reconciler.targets.interface import Diagnosis

operator_commands = typer.Typer()

#: whether something is in order (None: unknown): the sign of its line, and the style of that sign
_SIGNS = {True: ("ok", "ok"), False: ("!!", "!"), None: ("??", "~")}
_GRANTED = {True: "allowed", False: "not allowed", None: "unknown without trying"}


@operator_commands.command()
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
    upstream: Annotated[
        bool,
        typer.Option(
            "--upstream",
            help="Also ask the sources of versions: newer commits, and what was moved, removed or gated.",
        ),
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
    from reconciler.loop.status import observe_status
    from reconciler.loop.upstream_finding import UpstreamCode
    from reconciler.render.status import probes_text, status_document, status_text, upstream_text

    if not probe and (router is not None or allow_private):
        raise UsageError("--router and --allow-private require --probe")
    layout = find_layout(directory, index, targets, source_root)
    scope = Scope(layout, tuple(only or ()), tuple(exclude or ()), use_cache=not no_cache)
    layout.make_state()
    with out.progress() as progress, loaded_workspace(scope, os.environ, progress) as workspace:
        found = observe_status(workspace, check)
        probed = _probe(workspace, router, allow_private=allow_private) if probe else None
        asked = _ask_upstream(workspace) if upstream else None
    if as_json:
        out.result_json(status_document(found, probed, asked))
    else:
        out.result(status_text(found, deals=deals, paint=out.paint()))
        if probed is not None:
            out.result("\n" + probes_text(probed, out.paint()))
        if asked is not None:
            out.result("\n" + upstream_text(asked, out.paint()))
    unasked = any(one.code is UpstreamCode.UNKNOWN for one in asked or ())
    if found.unknown or unasked or any(one.problem for one in probed or ()):
        return ExitCode.PARTIAL
    return ExitCode.PENDING if exit_code and not found.in_sync else ExitCode.OK


def _ask_upstream(workspace: Workspace) -> tuple[UpstreamFinding, ...]:
    from reconciler.loop.upstream import check_upstream

    return check_upstream(workspace, os.environ)


def _probe(workspace: Workspace, router: str | None, *, allow_private: bool) -> tuple[Probed, ...]:
    from random import Random

    from reconciler.loop.status import probe_versions
    from reconciler.probes import DEFAULT_ROUTER, ProbeTerms, Router

    terms = ProbeTerms(allow_private=allow_private)
    with closing(Router(router or DEFAULT_ROUTER)) as opened:
        return probe_versions(workspace, opened, terms, Random())  # noqa: S311 - a sample, not a secret


# -- doctor --------------------------------------------------------------------------------------------------


@operator_commands.command()
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
    """Check that every target can be reached, has a supported version and grants the needed permissions.

    Prints how to fix each problem, and exits with 1 when there is one.
    """
    layout = find_layout(directory, index, targets)
    found = _forge_findings() if forge else _findings(Scope(layout, tuple(only or ()), tuple(exclude or ())))
    if as_json:
        out.result_json(documents.doctor_document(found))
    else:
        _print_findings(found)
    failed = any(finding.diagnosis.ok is False for finding in found)
    return ExitCode.ERROR if failed else ExitCode.OK


def _findings(scope: Scope) -> list[DoctorFinding]:
    from reconciler.loop.inspection import diagnose_targets

    scope.layout.make_state()
    with out.progress() as progress, loaded_workspace(scope, os.environ, progress) as workspace:
        return list(diagnose_targets(workspace))


def _forge_findings() -> list[DoctorFinding]:
    """Return what the token of the forge in the environment may do.

    A permission that the forge does not report counts neither as granted nor as missing.
    """
    from reconciler.forges.open import open_forge_for_comments
    from reconciler.loop.inspection import DoctorFinding

    with out.progress() as progress, closing(open_forge_for_comments(os.environ, progress)) as forge:
        return [DoctorFinding(forge.name, each) for each in _access_diagnoses(forge.access())]


def _access_diagnoses(access: Access) -> Iterator[Diagnosis]:
    from reconciler.targets.interface import Diagnosis

    yield Diagnosis("token", True, f"{access.kind} of {access.login}")
    for ability in access.abilities:
        yield Diagnosis(ability.name, ability.granted, _GRANTED[ability.granted], ability.hint)
    for note in access.notes:
        yield Diagnosis("note", None, note)


def _print_findings(findings: Sequence[DoctorFinding]) -> None:
    paint = out.paint()
    for finding in findings:
        found = finding.diagnosis
        sign = paint(*_SIGNS[found.ok])
        out.result(f"{sign} {plain(finding.target)}: {plain(found.subject)}: {plain(found.text)}")
        if found.hint:
            out.result(f"   hint: {plain(found.hint)}")


# -- adopt ---------------------------------------------------------------------------------------------------


@operator_commands.command()
def adopt(
    take: Annotated[
        bool, typer.Option("--take", help="Adopt the listed pins: relabel them as pins of this index.")
    ] = False,
    every: Annotated[
        bool, typer.Option("--all", help="List every foreign pin, not only pins of versions.")
    ] = False,
    origin: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="SERVICE",
            help="List versions whose pieces a migration from this service (storacha) brought to a target; "
            "with --take, record these pieces.",
        ),
    ] = None,
    as_json: Json = False,
    only: Only = None,
    exclude: Exclude = None,
    check: CheckDepth = Check.QUICK,
    directory: Directory = None,
    index: IndexFile = None,
    targets: TargetsFile = None,
) -> int:
    """List foreign pins of versions in the index; with --take, adopt them."""
    if origin is not None:
        layout = find_layout(directory, index, targets)
        scope = Scope(layout, tuple(only or ()), tuple(exclude or ()))
        return _adopt_pieces(origin, scope, check, take=take, as_json=as_json)
    from reconciler.loop.inspection import adopt_pins, foreign_pins
    from reconciler.loop.observe import observe
    from reconciler.loop.workspace import run_lock

    layout = find_layout(directory, index, targets)
    scope = Scope(layout, tuple(only or ()), tuple(exclude or ()))
    layout.make_state()
    with (
        run_lock(layout.state, "reconcile adopt"),
        out.progress() as progress,
        loaded_workspace(scope, os.environ, progress) as workspace,
    ):
        found = list(foreign_pins(workspace, observe(workspace, check)))
        matching = [pin for pin in found if pin.ref]
        problems = dict.fromkeys(found, "")
        if take:
            problems.update(adopt_pins(workspace, matching))
    shown = {pin: problem for pin, problem in problems.items() if every or pin.ref}
    if as_json:
        out.result_json(
            documents.adopt_document(shown, take=take, foreign=len(found), matching=len(matching))
        )
    else:
        for pin, problem in shown.items():
            out.result(_foreign_pin_line(pin, problem, take=take))
        out.say(f"{count(len(found), 'foreign pin')}, {len(matching):,} of them versions of the index")
        if matching and not take:
            out.say("hint: `reconcile adopt --take` adopts them")
    return ExitCode.PARTIAL if any(problems.values()) else ExitCode.OK


def _adopt_pieces(origin: str, scope: Scope, check: Check, *, take: bool, as_json: bool) -> int:
    """List versions that a migration from `origin` brought to targets; with `take`, record their pieces."""
    from reconciler.loop.carried_over import find_carried, record_carried
    from reconciler.loop.observe import observe
    from reconciler.loop.workspace import run_lock
    from reconciler.targets.storacha.target import CLIENT_SHARDING

    if origin != "storacha":
        raise UsageError(f"unknown service {origin!r}", hint="pieces of storacha can be adopted")
    scope.layout.make_state()
    with (
        run_lock(scope.layout.state, "reconcile adopt"),
        out.progress() as progress,
        loaded_workspace(scope, os.environ, progress) as workspace,
    ):
        found = list(find_carried(workspace, observe(workspace, check), CLIENT_SHARDING))
        if take:
            record_carried(workspace, found)
    if as_json:
        out.result_json(documents.carried_document(found, origin, taken=take))
    else:
        for each in found:
            out.result(plain(each.text))
        complete = [each for each in found if each.complete]
        out.say(f"{count(len(complete), 'version')} carried over, of {len(found):,}")
        if not take and any(not each.recorded for each in complete):
            out.say("hint: `reconcile adopt --from storacha --take` records their pieces")
    return ExitCode.OK


def _foreign_pin_line(pin: ForeignPin, problem: str, *, take: bool) -> str:
    what = pin.ref or "no version of the index"
    name = f" named {pin.pin.label!r}" if pin.pin.label else ""
    state = f": {problem}" if problem else ": adopted" if take and pin.ref else ""
    return plain(f"{pin.target}: {pin.pin.spelling or pin.pin.root}{name}: {what}{state}")
