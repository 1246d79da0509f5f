"""Plan, report and status as text."""

from __future__ import annotations

import re

import pytest

from reconciler.content.cid import RAW, hash_block
from reconciler.index.part import Part
from reconciler.loop.changes import (
    Blocked,
    Change,
    Outcome,
    OutcomeState,
    PinRoot,
    Plan,
    Publish,
    Refusal,
    Relabel,
    Repair,
    Report,
    ResolveCid,
    StreamVersion,
    Unpin,
    Wait,
    WriteRecord,
)
from reconciler.loop.log_leaves import WriteLeaf
from reconciler.loop.parts import StreamPart
from reconciler.loop.plan_document import KINDS, plan_document, report_document
from reconciler.loop.settings import RunOptions
from reconciler.loop.status import Holding, ReleaseStatus
from reconciler.render.status import status_document, status_text
from reconciler.render.text import colour, plan_text, report_text
from reconciler.targets.check import Check
from reconciler.targets.interface import State
from tests.support.releases import assert_document

ROOT = hash_block(RAW, b"root")
LABEL = "reconciler/acme/llm@1.0.0"
AT = {"model": "llm", "version": "1.0.0", "root": ROOT}
ON = {**AT, "target": "node", "label": LABEL}

CHANGES: tuple[Change, ...] = (
    Publish(**ON, sources=("directory",), size=3 << 20, reason="not there yet"),
    Publish(**ON, sources=("a", "b")),
    PinRoot(**ON, sources=("store",)),
    Repair(**ON, sources=("directory",), damaged=(ROOT,), drift=True, reason="1 block is bad"),
    Repair(**ON, sources=("node",)),
    Relabel(**ON, old="reconciler/acme/old@1.0.0"),
    ResolveCid(**AT),
    WriteRecord(**AT, path="records/llm/1.0.0.json", size=5),
    WriteLeaf(**AT, path="log/leaves/llm@1.0.0.1.json", events=("release", "yank")),
    Wait(**AT, target="node", reason="queued"),
    Blocked(**AT, target="node", reason="cannot reach node", hint="check that it is running", unknown=True),
    Blocked(**AT, reason="weights/llm is not on this machine", hint="give --source-root"),
    Unpin(**{**ON, "model": "gone"}, reason="not in the index any more"),
    StreamVersion(
        **{**AT, "model": "remote"},
        source="hf:acme/llm@main",
        targets=("node", "store"),
        files=3,
        size=7 << 20,
        reason="CID later",
    ),
    Publish(**{**ON, "model": "remote"}, sources=("source",)),
    StreamPart(
        **{**AT, "model": "remote"},
        source="hf:acme/llm@main",
        targets=("node",),
        part=Part(2, 5),
        reason="kept until then",
    ),
)


def a_plan(*changes: Change) -> Plan:
    return Plan("acme", "0" * 64, "0" * 64, RunOptions(), changes, in_sync=1234)


def test_a_plan_shows_every_kind_of_change() -> None:
    assert {change.kind for change in CHANGES} == set(KINDS)
    assert plan_text(a_plan(*CHANGES)).splitlines() == [
        "llm",
        "  + 1.0.0 → node       publish 3.0 MiB from its directory  (not there yet)",
        "  + 1.0.0 → node       publish from a, b",
        "  + 1.0.0 → node       pin by CID, fetched from store",
        "  ~ 1.0.0 → node       repair 1 block from its directory  (1 block is bad)",
        "  ~ 1.0.0 → node       repair from node",
        "  ~ 1.0.0 → node       relabel reconciler/acme/old@1.0.0 as reconciler/acme/llm@1.0.0",
        f"  ~ 1.0.0              write cid {ROOT}",
        "  ~ 1.0.0              write records/llm/1.0.0.json",
        "  ~ 1.0.0              log release, yank",
        "  … 1.0.0 → node       waiting  (queued)",
        "  ! 1.0.0 → node       unknown: cannot reach node",
        "      hint: check that it is running",
        "  ! 1.0.0              blocked: weights/llm is not on this machine",
        "      hint: give --source-root",
        "gone",
        "  - 1.0.0 → node       unpin  (not in the index any more)",
        "remote",
        "  + 1.0.0              stream 7.0 MiB in 3 files from hf:acme/llm@main to node, store  (CID later)",
        "  + 1.0.0 → node       publish from its source",
        "  + 1.0.0              stream part 2/5 from hf:acme/llm@main to node  (kept until then)",
        "",
        "Plan: 1 version to stream (7.0 MiB), 1 part to stream, 3 bundles to publish (3.0 MiB), 1 to pin, "
        "2 to repair, 1 to relabel, 1 CID to write, 1 version to log, 1 to unpin, 1 waiting, 2 blocked; "
        "1,234 in sync.",
    ]


def test_documents_of_every_kind_and_state_hold_to_their_schemas() -> None:
    plan = a_plan(*CHANGES)
    assert_document("plan", plan_document(plan))
    for state in OutcomeState:
        outcomes = tuple(Outcome(change, state, "detail", "hint", 1, 1) for change in CHANGES)
        document = report_document(Report(plan, outcomes, interrupted=True))
        assert_document("report", document)
        assert document["summary"][state] == len(CHANGES)


def test_the_digest_covers_everything_but_the_notes() -> None:
    plan = a_plan(*CHANGES)
    digest = plan_document(plan)["digest"]
    noted = Plan("acme", "0" * 64, "0" * 64, RunOptions(), CHANGES, in_sync=1234, notes=("a note",))
    assert plan_document(noted)["digest"] == digest
    refused = Plan(
        "acme", "0" * 64, "0" * 64, RunOptions(), CHANGES, in_sync=1234, refusals=(Refusal("frozen", "x"),)
    )
    for other in (a_plan(*CHANGES[1:]), a_plan(*CHANGES[::-1]), refused):
        assert plan_document(other)["digest"] != digest


def test_an_empty_plan_and_report_say_so() -> None:
    assert plan_text(a_plan()) == "Plan: nothing to do; 1,234 in sync.\n"
    assert report_text(Report(a_plan(), ())) == "Result: nothing to do; 1,234 in sync.\n"


def test_refusals_come_last_with_the_way_round() -> None:
    plan = Plan("a", "", "", RunOptions(), (), refusals=(Refusal("removals", "too many", "say so"),))
    assert plan_text(plan).endswith("refused: too many\n  hint: say so\n")


def test_a_report_says_what_became_of_each_change() -> None:
    publish, *_, resolve = CHANGES[:7]
    outcomes = (
        Outcome(publish, OutcomeState.APPLIED, bytes_sent=3 << 20),
        Outcome(CHANGES[1], OutcomeState.FAILED, "no space left", "free some"),
        Outcome(resolve, OutcomeState.APPLIED, "written to the working tree"),
        Outcome(CHANGES[9], OutcomeState.WAITING, "queued"),
        Outcome(CHANGES[12], OutcomeState.SKIPPED, "interrupted"),
    )
    assert report_text(Report(a_plan(), outcomes, interrupted=True)).splitlines() == [
        "llm",
        "  + 1.0.0 → node       publish 3.0 MiB from its directory: applied, 3.0 MiB sent",
        "  ! 1.0.0 → node       publish from a, b: failed: no space left",
        "      hint: free some",
        f"  ~ 1.0.0              write cid {ROOT}: applied: written to the working tree",
        "  … 1.0.0 → node       waiting: waiting: queued",
        "gone",
        "  ! 1.0.0 → node       unpin: skipped: interrupted",
        "",
        "Result: 2 applied, 1 waiting, 1 failed, 1 skipped; 3.0 MiB sent; 1,234 in sync; interrupted.",
    ]


HOSTILE = "::error::\x1b[31m\u202e\n::set-output name=x::y"


@pytest.mark.parametrize("paint", [colour, lambda text, _: text], ids=["colour", "plain"])
def test_hostile_text_reaches_no_line_of_its_own(paint: object) -> None:
    change = Unpin(model=HOSTILE, version=HOSTILE, target=HOSTILE, root=ROOT, label=HOSTILE, reason=HOSTILE)
    blocked = Blocked(model=HOSTILE, version=HOSTILE, target=HOSTILE, reason=HOSTILE, hint=HOSTILE)
    plan = Plan(
        "a",
        "",
        "",
        RunOptions(),
        (change, blocked),
        notes=(HOSTILE,),
        refusals=(Refusal("r", HOSTILE, HOSTILE),),
    )
    report = Report(
        plan,
        (
            Outcome(change, OutcomeState.FAILED, HOSTILE, HOSTILE),
            Outcome(blocked, OutcomeState.BLOCKED, HOSTILE),
        ),
    )
    holding = Holding(HOSTILE, HOSTILE, HOSTILE, ROOT, State.PARTIAL, (HOSTILE,), 1, HOSTILE, HOSTILE)
    status = ReleaseStatus("a", Check.QUICK, (holding,))
    for text in (
        plan_text(plan, paint=paint),
        report_text(report, paint=paint),
        status_text(status, paint=paint),
    ):  # type: ignore[arg-type]
        bare = re.sub(r"\x1b\[[\d;]*m", "", text) if paint is colour else text
        assert all(line.isprintable() for line in bare.split("\n"))
        assert not re.search(r"^\s*::", bare, re.MULTILINE)
        assert "\x1b[31m\u202e" not in text


def test_a_status_shows_every_state() -> None:
    holdings = tuple(Holding("llm", f"1.0.{n}", "node", ROOT, state) for n, state in enumerate(State))
    status = ReleaseStatus(
        "acme", Check.QUICK, (*holdings, Holding("new", "1.0.0", "node", None, State.ABSENT))
    )
    document = status_document(status)
    assert_document("status", document)
    assert document["summary"] == {state.value: 1 + (state is State.ABSENT) for state in State}
    text = status_text(status)
    assert f"  1.0.0 → node           held     {ROOT}\n" in text
    assert "  1.0.0 → node           absent   no CID yet\n" in text
    assert text.endswith("Status: 2 absent, 1 failed, 1 held, 1 partial, 1 pending, 1 unknown.\n")
    assert status_text(ReleaseStatus("acme", Check.QUICK, ())) == "Status: nothing to keep.\n"
