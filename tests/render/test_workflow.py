"""What a runner reads says what was meant, whatever names and messages hold."""

from __future__ import annotations

import io

import pytest

from reconciler.content import cid
from reconciler.errors import Where
from reconciler.loop.changes import Blocked, Outcome, OutcomeState, Plan, Publish, Refusal, Report
from reconciler.loop.settings import RunOptions
from reconciler.render.workflow import (
    MAX_ANNOTATIONS,
    Annotation,
    plan_annotations,
    report_annotations,
    write_outputs,
)

ROOT = cid.hash_block(cid.RAW, b"x")
PLACES = {"m@1.0.0": Where("releases/index.yaml", 12)}


def plan(*changes, refusals=()):
    return Plan("id", "0" * 64, "0" * 64, RunOptions(), tuple(changes), refusals=tuple(refusals))


def blocked(version="1.0.0", **kwargs):
    return Blocked(model="m", version=version, reason="no bytes", hint="run elsewhere", **kwargs)


def publish(*, drift):
    return Publish(
        model="m", version="1.0.0", target="store", root=ROOT, label="l", sources=("directory",), drift=drift
    )


def test_a_blocked_version_is_an_error_on_its_line():
    (found,) = plan_annotations(plan(blocked()), PLACES)
    assert found.command() == (
        "::error file=releases/index.yaml,title=m@1.0.0,line=12::no bytes%0Arun elsewhere"
    )


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\n::error::b", "a%0A::error::b"),
        ("100%\r", "100%25%0D"),
        ("::set-output name=x::y", "::set-output name=x::y"),
    ],
)
def test_a_message_stays_one_command(text, shown):
    command = Annotation("notice", "t,:i\ntle", text).command()
    assert command == f"::notice title=t%2C%3Ai%0Atle::{shown}"
    assert "\n" not in command


def test_new_versions_are_no_annotation_but_drift_is():
    assert plan_annotations(plan(publish(drift=False)), PLACES) == []
    (found,) = plan_annotations(plan(publish(drift=True)), PLACES)
    assert (found.level, found.where) == ("notice", PLACES["m@1.0.0"])


def test_ten_are_shown_the_most_important_first_and_the_last_counts_the_rest():
    changes = [publish(drift=True), *(blocked(f"1.{n}.0", unknown=n % 2 == 0) for n in range(20))]
    found = plan_annotations(plan(*changes, refusals=[Refusal("frozen", "m@1.0.0 was X")]), PLACES)
    assert len(found) == MAX_ANNOTATIONS
    assert [a.level for a in found[:9]] == ["error"] * 9
    assert found[0].title == "refused: frozen"
    assert found[-1].message.startswith("13 more")


def test_a_report_names_failures_before_skipped_items():
    outcomes = (
        Outcome(publish(drift=False), OutcomeState.SKIPPED, "interrupted"),
        Outcome(publish(drift=False), OutcomeState.APPLIED),
        Outcome(publish(drift=False), OutcomeState.FAILED, "disk full", "free some space"),
    )
    found = report_annotations(Report(plan(*(o.change for o in outcomes)), outcomes), PLACES)
    assert [a.level for a in found] == ["error", "warning"]
    assert "disk full" in found[0].message
    assert "free some space" in found[0].message


def test_no_value_can_end_its_output_early():
    stream = io.StringIO()
    write_outputs({"a": "x\nend-0\nb=c", "b": ""}, stream)
    text = stream.getvalue()
    name, _, delimiter = text.splitlines()[0].partition("<<")
    assert name == "a"
    assert text.startswith(f"a<<{delimiter}\nx\nend-0\nb=c\n{delimiter}\nb<<")
    assert len(delimiter) > 30
