"""Comments and summaries of a job stay below their limits and show hostile text as text."""

from __future__ import annotations

import pytest

from reconciler.content import cid
from reconciler.forges.interface import BODY_LIMIT
from reconciler.loop.changes import Blocked, Outcome, OutcomeState, Plan, Publish, Refusal, Report
from reconciler.loop.settings import RunOptions
from reconciler.render.workflow import (
    SUMMARY_LIMIT,
    failure_comment,
    failure_page,
    link,
    note,
    plan_comment,
    plan_summary_page,
    report_summary_page,
)

ROOT = cid.hash_block(cid.RAW, b"x")
PAGE = "https://github.com/o/r/pull/1/checks"


def plan(*changes, refusals=()):
    return Plan("id", "0" * 64, "0" * 64, RunOptions(), tuple(changes), refusals=tuple(refusals))


def publish(number: int, reason: str = "not there yet"):
    version = f"1.{number}.0"
    return Publish(
        model="m", version=version, target="store", root=ROOT, label="l", sources=("d",), reason=reason
    )


def test_a_comment_that_had_to_be_cut_says_where_the_rest_is() -> None:
    text = plan_comment(plan(*(publish(number) for number in range(3000))), PAGE)
    assert len(text) < BODY_LIMIT - 1_000
    assert f"the step summary has all of them, see [the checks]({PAGE})" in text
    assert text.count("<details>") == text.count("</details>") == 1


def test_a_short_table_is_not_folded_and_a_long_one_is() -> None:
    assert "<details>" not in plan_comment(plan(publish(1)), PAGE)
    folded = plan_comment(plan(*(publish(number) for number in range(30))), PAGE)
    assert "<details><summary>All 30 changes</summary>\n\n| |" in folded


def test_the_same_plan_gives_the_same_comment() -> None:
    assert plan_comment(plan(publish(1)), PAGE) == plan_comment(plan(publish(1)), PAGE)


@pytest.mark.parametrize("reason", ["x", "é" * 300, "\U0001f40d" * 300, "<|>" * 300])
def test_a_summary_stays_below_what_drops_it_whole(reason: str) -> None:
    changes = [publish(number, reason) for number in range(5000)]
    page = plan_summary_page(plan(*changes), note("the end"))
    assert len(page.encode()) <= SUMMARY_LIMIT
    report = Report(plan(*changes), tuple(Outcome(change, OutcomeState.FAILED, reason) for change in changes))
    assert len(report_summary_page(report).encode()) <= SUMMARY_LIMIT
    if reason == "x":
        assert page.endswith("> the end\n")


def test_a_failure_of_any_length_fits() -> None:
    text = "a\U0001f40d\n" * 200_000
    assert len(failure_page(text, text).encode()) <= SUMMARY_LIMIT
    assert len(failure_comment(text, text, PAGE)) < BODY_LIMIT


def test_refusals_come_first() -> None:
    text = plan_comment(
        plan(Blocked(model="m", version="1.0.0"), refusals=[Refusal("frozen", "moved")]), PAGE
    )
    assert text.index("Refused") < text.index("| |")


@pytest.mark.parametrize("address", ["javascript:alert(1)", "https://x/) [a](https://y", "https://x y", ""])
def test_an_address_that_could_leave_its_place_is_no_link(address: str) -> None:
    assert link("here", address) == "here"


def test_a_note_is_one_quoted_line() -> None:
    assert note("a\n<b>") == "> a — \\<b\\>"
