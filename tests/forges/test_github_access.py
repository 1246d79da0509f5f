"""The permissions of a GitHub token in `doctor --forge`, which changes nothing."""

from __future__ import annotations

import pytest

from reconciler.errors import PeerError
from reconciler.forges.github import github
from reconciler.forges.github.api import ACTIONS_SETTING
from reconciler.net.auth import Secret
from tests.forges.fake_github import Break, FakeGitHub, Refusal

REFUSED = Refusal(403, "Resource not accessible by integration")


def ask(fake: FakeGitHub, ticking):
    before = (dict(fake.refs), len(fake.pulls), len(fake.comments))
    access = github("o/r", Secret(fake.token), clock=ticking.clock, transport=fake.transport).access()
    assert (dict(fake.refs), len(fake.pulls), len(fake.comments)) == before
    return access, {one.name: one for one in access.abilities}


@pytest.mark.parametrize(
    ("token", "kind"),
    [
        ("ghp_x", "classic personal access token"),
        ("github_pat_x", "fine-grained personal access token"),
        ("ghs_x", "App or Actions token"),
        ("ghu_x", "App token that acts for a user"),
        ("other", "token"),
    ],
)
def test_the_sort_of_a_token_is_named(token, kind, description_if_there, ticking):
    fake = FakeGitHub(description_if_there, token=token)
    fake.scopes = "repo"
    access, _ = ask(fake, ticking)
    assert (access.kind, access.login) == (kind, "bot[bot]")


@pytest.mark.parametrize(
    ("scopes", "private", "push", "granted"),
    [
        ("repo, workflow", True, True, True),
        ("public_repo", False, True, True),
        ("public_repo", True, True, False),
        ("gist", False, True, False),
        ("repo", True, False, False),
    ],
)
def test_a_classic_token_is_read_by_its_scopes(scopes, private, push, granted, description_if_there, ticking):
    fake = FakeGitHub(description_if_there, token="ghp_canary")
    fake.scopes = scopes
    fake.repository |= {"private": private, "permissions": {"admin": False, "push": push, "pull": True}}
    _, abilities = ask(fake, ticking)
    assert abilities["write contents"].granted is granted
    assert bool(abilities["write contents"].hint) is not granted


def test_another_token_is_tried_with_requests_that_change_nothing(description_if_there, ticking):
    _, abilities = ask(FakeGitHub(description_if_there), ticking)
    assert abilities["write contents"].granted is True
    assert abilities["write pull requests"].granted is True
    assert abilities["label and comment"].granted is None


def test_what_is_refused_is_missing_and_named(description_if_there, ticking):
    fake = FakeGitHub(description_if_there)
    fake.breaks = [Break(at, REFUSED) for at in (2, 3)]  # after the repository and the login
    _, abilities = ask(fake, ticking)
    assert abilities["write contents"].granted is False
    assert "contents: write" in abilities["write contents"].hint
    assert "pull-requests: write" in abilities["write pull requests"].hint


def test_what_cannot_be_found_out_is_not_claimed(description_if_there, ticking):
    fake = FakeGitHub(description_if_there)
    fake.breaks = [Break(2, Refusal(500, "Server Error"))]
    _, abilities = ask(fake, ticking)
    assert abilities["write contents"].granted is None


@pytest.mark.parametrize("allowed", [True, False])
def test_the_token_of_actions_is_told_of_its_setting_and_its_limits(allowed, description_if_there, ticking):
    fake = FakeGitHub(description_if_there, login="github-actions[bot]")
    fake.settings["can_approve_pull_request_reviews"] = allowed
    access, abilities = ask(fake, ticking)
    assert abilities["open pull requests from Actions"].granted is allowed
    assert allowed or abilities["open pull requests from Actions"].hint == ACTIONS_SETTING
    assert any("approval" in note for note in access.notes)


def test_an_archived_repository_is_noted(description_if_there, ticking):
    fake = FakeGitHub(description_if_there)
    fake.repository["archived"] = True
    assert any("archived" in note for note in ask(fake, ticking)[0].notes)


def test_a_token_that_sees_nothing_is_an_error(description_if_there, ticking):
    fake = FakeGitHub(description_if_there)
    fake.breaks = [Break(0, Refusal(404, "Not Found"))]
    with pytest.raises(PeerError, match="not found"):
        ask(fake, ticking)
