"""Refusals of a forge as the command reports them: an exit code, one message, and what to change."""

from __future__ import annotations

import pytest

from reconciler.forges.github import github as github_forge
from reconciler.forges.github.api import ACTIONS_SETTING
from reconciler.forges.interface import Clock
from tests.forges.fake_github import Break, FakeGitHub, Refusal
from tests.forges.refusals import ROWS
from tests.support.command_line import CommandLine

TOKEN = "ghs_canary0123456789"
MANY = 400  #: calls; more than a run makes
OPENING = 13  #: the call that opens the pull request, when nothing was there

PERMISSION = "hint: grant contents: write, pull-requests: write"
NEW_TOKEN = "hint: the token is wrong, expired or revoked: make a new one and set it again"
READY = "https://github.com/o/r/compare/main...reconciler/resolve-cids?expand=1"
#: by row: the message, and the hint where there is one
SAID = {
    "401": ("rejected the token", NEW_TOKEN),
    "403 permission": ("the token lacks a permission", PERMISSION),
    "403 permission of a personal token": ("the token lacks a permission", PERMISSION),
    "403 setting": ("GitHub Actions must not create pull requests", f"hint: {ACTIONS_SETTING}"),
    "403 pause": ("rate limit exceeded", "hint: run again in 1 min"),
    "403 pause without a time": ("rate limit exceeded", "hint: run again later"),
    "403 limit": ("rate limit exceeded", "hint: run again in 1 min"),
    "403 limit for an hour": ("rate limit exceeded", "hint: run again in 61 min"),
    "403 single sign-on": ("the token is not authorized for single sign-on", "Configure SSO"),
    "404": ("no branch 'main' in 'o/r'", "the token may not read the repository"),
    "409 empty": ("Git Repository is empty", "hint: push a first commit to it"),
    "409 mismatch": ("conflict (HTTP 409)", "hint: run again"),
    "422 exists": ("A pull request already exists", ""),
    "422 no commits": ("No commits between main", ""),
    "422 reference": ("Reference already exists", ""),
    "422 fast forward": ("Update is not a fast forward", ""),
    "422 node": ("Could not resolve to a node", ""),
    "429": ("rate limit exceeded", "hint: run again in 1 min"),
    "500": ("failed (HTTP 500)", ""),
    "502 after it was done": ("failed (HTTP 502)", ""),
    "timeout before": ("was silent for too long", ""),
    "timeout after it was done": ("was silent for too long", ""),
    "reset after it was done": ("the connection broke", ""),
    "unreachable": ("cannot be reached at https://api.github.com", "hint: check that it is running"),
    "cut off after it was done": ("answered with invalid or truncated JSON", "hint: "),
    "web page": ("answered with a web page", "hint: "),
    "nonsense after it was done": ("unexpected response: 'object.sha' is not a string", "hint: "),
}


@pytest.fixture
def github(reconcile: CommandLine, monkeypatch: pytest.MonkeyPatch) -> FakeGitHub:
    """The forge that the command opens, with a clock that never waits."""
    fake = FakeGitHub(None, token=TOKEN)
    index = (reconcile.root / "releases/index.yaml").read_bytes()
    fake.push("main", {"releases/index.yaml": index}, "Add llm")
    defaults = github_forge.__kwdefaults__
    monkeypatch.setitem(defaults, "transport", fake.transport)
    monkeypatch.setitem(
        defaults, "clock", Clock(monotonic=lambda: 0, now=lambda: 1_800_000_000, sleep=lambda _: None)
    )
    for name, value in {
        "RECONCILE_FORGE": "github",
        "RECONCILE_FORGE_REPOSITORY": "o/r",
        "RECONCILE_FORGE_BASE": "main",
        "RECONCILE_FORGE_TOKEN": TOKEN,
    }.items():
        monkeypatch.setenv(name, value)
    return fake


def broken_from(row: str, first: int) -> list[Break]:
    """Answer with this row at every call from number `first` on."""
    what, carried_out = ROWS[row]
    refusal, fault = (what, None) if isinstance(what, Refusal) else (None, what)
    return [Break(number, refusal, fault, carried_out) for number in range(first, MANY)]


def test_every_row_has_its_words() -> None:
    assert SAID.keys() == ROWS.keys()


@pytest.mark.parametrize("row", ROWS)
def test_a_forge_that_answers_so_to_everything_is_one_clear_error(
    reconcile: CommandLine, github: FakeGitHub, row: str
) -> None:
    """The bytes are published, the proposal fails, nothing is written here, and the next run finishes."""
    before = (reconcile.root / "releases").stat().st_mtime_ns, reconcile.files()["releases/index.yaml"]
    github.breaks = broken_from(row, 0)
    done = reconcile("--propose", "pull-request")
    message, advice = SAID[row]
    assert (done.code, done.err.count("error: ")) == (5, 0)
    failed = [line for line in done.out.splitlines() if ": failed: " in line]
    assert len(failed) == 4
    assert "GitHub: " in failed[0]
    assert message in failed[0]
    assert all(line.endswith("failed: for the same reason") for line in failed[1:])
    assert done.out.count("hint: ") <= 1
    assert advice in done.out
    assert done.out.count(": applied, ") == 2
    assert done.out.splitlines()[-1].startswith("Result: 2 applied, 4 failed;")
    assert TOKEN not in done.out + done.err
    after = (reconcile.root / "releases").stat().st_mtime_ns, reconcile.files()["releases/index.yaml"]
    assert after == before
    github.breaks = []
    assert reconcile("--propose", "pull-request").code == 0
    assert len(github.open_pulls()) == len(github.pulls) == 1


@pytest.mark.parametrize("row", ["401", "403 permission", "403 setting", "403 single sign-on"])
def test_a_branch_that_is_ready_is_named_where_the_pull_request_is_refused(
    reconcile: CommandLine, github: FakeGitHub, row: str
) -> None:
    github.breaks = broken_from(row, OPENING)
    done = reconcile("--propose", "pull-request")
    assert done.code == 5
    assert "while opening the pull request" in done.out
    message, advice = SAID[row]
    assert message in done.out
    assert advice in done.out
    assert done.out.count(f"a person can open it at {READY}") == 1


@pytest.mark.parametrize("row", ["401", "403 single sign-on", "404", "500", "unreachable", "web page"])
def test_doctor_is_one_clear_error_as_well(reconcile: CommandLine, github: FakeGitHub, row: str) -> None:
    github.breaks = broken_from(row, 0)
    done = reconcile("doctor", "--forge")
    assert (done.code, done.out) == (1, "")
    assert done.err.count("error: ") == 1
    assert "error: GitHub: " in done.err
    error = reconcile("doctor", "--forge", "--json").document["error"]
    assert error["exit_code"] == 1
    assert "\n" not in error["message"]
    assert TOKEN not in done.err


@pytest.mark.parametrize("row", ["401", "403 permission", "500", "web page"])
def test_a_plan_asks_no_forge_and_is_not_stopped_by_one(
    reconcile: CommandLine, github: FakeGitHub, row: str
) -> None:
    github.breaks = broken_from(row, 0)
    done = reconcile("plan", "--propose", "pull-request")
    assert done.code == 0
    assert done.out.startswith("llm\n")
