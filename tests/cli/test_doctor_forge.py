"""`doctor --forge`: what the token may do, as text and as JSON, without changing anything."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from reconciler.forges.github import github as github_forge
from reconciler.forges.interface import Clock
from tests.forges.fake_github import FakeGitHub, Refusal
from tests.support.command_line import CommandLine
from tests.support.github_server import serving

REFUSED = Refusal(403, "Resource not accessible by integration")


@pytest.fixture
def github(reconcile: CommandLine, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeGitHub]:
    """A forge on loopback that the environment names."""
    fake = FakeGitHub(None, token="ghp_canary")
    monkeypatch.setitem(github_forge.__kwdefaults__, "clock", Clock(sleep=lambda _: None))
    with serving(fake) as url:
        for name, value in {
            "RECONCILE_FORGE": "github",
            "RECONCILE_FORGE_REPOSITORY": "o/r",
            "RECONCILE_FORGE_BASE": "main",
            "RECONCILE_FORGE_API": url,
            "RECONCILE_FORGE_TOKEN": "ghp_canary",
        }.items():
            monkeypatch.setenv(name, value)
        yield fake


def test_a_token_that_may_do_everything_is_in_order(reconcile: CommandLine, github: FakeGitHub) -> None:
    github.scopes = "repo"
    before = reconcile.files()
    done = reconcile("doctor", "--forge")
    assert done.code == 0
    assert done.out.splitlines()[0] == ("ok GitHub: token: classic personal access token of bot[bot]")
    assert "ok GitHub: write contents: allowed\n" in done.out
    assert reconcile.files() == before
    document = reconcile("doctor", "--forge", "--json").document
    assert document["ok"] is True
    assert {item["target"] for item in document["items"]} == {"GitHub"}


def test_what_is_missing_is_named_with_the_way_to_grant_it(
    reconcile: CommandLine, github: FakeGitHub
) -> None:
    github.scopes = "gist"
    done = reconcile("doctor", "--forge")
    assert done.code == 1
    assert "!! GitHub: write pull requests: not allowed\n   hint: give the token the scope " in done.out
    document = reconcile("doctor", "--forge", "--json").document
    assert document["ok"] is False


def test_what_only_trying_would_tell_is_no_failure(
    reconcile: CommandLine, github: FakeGitHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    github.token = "ghs_canary"
    monkeypatch.setenv("RECONCILE_FORGE_TOKEN", "ghs_canary")
    done = reconcile("doctor", "--forge")
    assert done.code == 0
    assert "?? GitHub: label and comment: unknown without trying\n" in done.out


def test_a_token_without_access_is_one_clear_error(
    reconcile: CommandLine, github: FakeGitHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECONCILE_FORGE_TOKEN", "ghp_other")
    done = reconcile("doctor", "--forge")
    assert done.code == 1
    assert done.out == ""
    assert done.err.startswith("error: GitHub")
    assert "ghp_other" not in done.err


def test_without_a_forge_in_the_environment_it_says_what_to_set(reconcile: CommandLine) -> None:
    done = reconcile("doctor", "--forge")
    assert done.code == 2
    assert "RECONCILE_FORGE" in done.err
