"""GitHub: every error at every call of the sequence, and actions of people between any two calls.

The run after it must always end with one branch, one pull request, and all commits of people.
"""

from __future__ import annotations

import base64
import json
import logging
from dataclasses import dataclass
from urllib.parse import quote

import pytest

from reconciler.errors import PeerError
from reconciler.forges.github import github
from reconciler.forges.github.api import ACTIONS_SETTING
from reconciler.forges.interface import PROPOSAL_BRANCH, BranchOutcome, Forge, Proposal, ProposalOutcome
from reconciler.forges.propose import propose
from reconciler.net.auth import Secret
from tests.conformance.forges import FILES, INDEX, OTHER_FILES, FixedEdit
from tests.forges.fake_github import Break, FakeGitHub, Refusal
from tests.forges.refusals import ACTIONS, INTEGRATION, LASTING, ROWS
from tests.support.pairs import pairs

BASE = "main"
PROPOSAL = Proposal("T", "B", base=BASE, labels=("models",), reviewers=("person",))
NEWER = Proposal("T2", "B2", base=BASE, labels=("models", "cids"))


@dataclass
class Scene:
    """A state of the repository, and a run that starts from it."""

    name: str
    calls: int  #: the number of calls of a run without errors

    def prepare(self, fake: FakeGitHub, forge: Forge) -> None:
        if self.name in ("changed", "unchanged", "close", "comment"):
            go(forge, FILES, PROPOSAL)
        if self.name == "comment":
            forge.upsert_comment(1, "plan", "old")

    def run(self, forge: Forge) -> None:
        match self.name:
            case "new" | "unchanged":
                go(forge, FILES, PROPOSAL)
            case "changed":
                go(forge, OTHER_FILES, NEWER)
            case "close":
                forge.close_proposal("nothing is left", base=BASE)
            case "comment":
                forge.upsert_comment(1, "plan", "new")

    def check(self, fake: FakeGitHub) -> None:
        """Check the state after the run that follows the failed one."""
        if self.name == "close":
            assert fake.open_pulls() == []
            assert sum("nothing is left" in one["body"] for one in fake.comments) == 1
            assert len(fake.pulls) == 1
            return
        (pull,) = fake.open_pulls()
        assert len(fake.pulls) == 1
        files, proposal = (OTHER_FILES, NEWER) if self.name == "changed" else (FILES, PROPOSAL)
        assert files.items() <= fake.files(PROPOSAL_BRANCH).items()
        assert (pull["title"], pull["body"]) == (proposal.title, proposal.body)
        assert set(proposal.labels) <= pull["labels"]
        assert fake.commits[fake.refs[PROPOSAL_BRANCH]]["parents"] == [fake.refs[BASE]]
        assert set(fake.refs) == {BASE, PROPOSAL_BRANCH}
        if self.name == "comment":
            assert [one["body"].splitlines()[-1] for one in fake.comments] == ["new"]


SCENES = [
    Scene("new", 11),
    Scene("changed", 10),
    Scene("unchanged", 5),
    Scene("close", 9),
    Scene("comment", 3),
]
STEPS = [(scene, at) for scene in SCENES for at in range(scene.calls)]


def go(forge: Forge, files, proposal):
    return propose(forge, FixedEdit(files, proposal=proposal), base=BASE, close_comment="nothing is left")


def connect(fake: FakeGitHub, ticking, **options) -> Forge:
    return github("o/r", Secret(fake.token), clock=ticking.clock, transport=fake.transport, **options)


@pytest.fixture
def fake(description_if_there) -> FakeGitHub:
    return FakeGitHub(description_if_there)


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.name)
def test_the_steps_below_are_all_there_are(scene, fake, ticking):
    forge = connect(fake, ticking)
    scene.prepare(fake, forge)
    before = fake.calls
    scene.run(connect(fake, ticking))
    assert fake.calls - before == scene.calls
    scene.check(fake)


@pytest.mark.parametrize(("step", "row"), pairs(STEPS, list(ROWS), every=4))
def test_any_answer_at_any_call_is_one_clear_error_or_none_and_the_next_run_finishes(
    step, row, fake, ticking
):
    scene, at = step
    scene.prepare(fake, connect(fake, ticking))
    what, carried_out = ROWS[row]
    first = fake.calls + at
    refusal, fault = (what, None) if isinstance(what, Refusal) else (None, what)
    fake.breaks = [Break(first, refusal, fault, carried_out)]
    error = None
    try:
        scene.run(connect(fake, ticking))
    except PeerError as caught:
        error = caught
    assert len([one for one in fake.pulls if one["state"] == "open"]) <= 1
    fake.breaks = []
    if row in LASTING:
        assert error is not None or "/git/ref/" in fake.log[first].path or fake.log[first].path == "/graphql"
    if error is not None:
        assert "\n" not in str(error)
        assert "GitHub" in str(error)
        if row in LASTING:
            assert error.hint
    scene.run(connect(fake, ticking))
    scene.check(fake)


def raised_by(fake, ticking, at, what) -> PeerError:
    """Return the error of a first proposal when call number `at` fails with `what`."""
    fake.breaks = [Break(fake.calls + at, what)]
    with pytest.raises(PeerError) as caught:
        go(connect(fake, ticking), FILES, PROPOSAL)
    return caught.value


def test_a_missing_permission_is_named(fake, ticking):
    named = Refusal(403, INTEGRATION.message, None, {"x-accepted-github-permissions": "pull_requests=write"})
    assert "pull-requests: write" in (raised_by(fake, ticking, 5, named).hint or "")
    assert "contents: write" in (raised_by(fake, ticking, 2, INTEGRATION).hint or "")


def test_the_setting_of_actions_is_named_with_its_place_and_the_branch_stays(fake, ticking):
    error = raised_by(fake, ticking, 8, ACTIONS)
    assert ACTIONS_SETTING in (error.hint or "")
    assert "https://github.com/o/r/compare/main...reconciler/resolve-cids?expand=1" in (error.hint or "")
    assert PROPOSAL_BRANCH in fake.refs


def test_single_sign_on_names_the_address_that_authorizes(fake, ticking):
    where = "https://github.com/orgs/o/sso?authorization_request=x"
    sso = Refusal(
        403,
        "Resource protected by organization SAML enforcement.",
        None,
        {"x-github-sso": f"required; url={where}"},
    )
    assert where in (raised_by(fake, ticking, 0, sso).hint or "")


def test_a_wrong_token_and_a_hidden_repository_tell_what_to_do(fake, ticking):
    assert "make a new one" in (raised_by(fake, ticking, 0, Refusal(401, "Bad credentials")).hint or "")
    assert "that the token may read it" in (raised_by(fake, ticking, 4, Refusal(404, "Not Found")).hint or "")


def test_a_renamed_repository_says_so(fake, ticking):
    moved = Refusal(301, "Moved Permanently", None, {"location": "https://api.github.com/repositories/1"})
    fake.description = None
    assert "renamed or moved" in (raised_by(fake, ticking, 0, moved).hint or "")


def test_a_protected_branch_names_the_rules(fake, ticking):
    ruled = Refusal(422, "Repository rule violations found")
    assert "Settings > Rules" in (raised_by(fake, ticking, 7, ruled).hint or "")


def test_a_deletion_whose_answer_is_lost_is_a_success(fake, ticking):
    go(connect(fake, ticking), FILES, PROPOSAL)
    fake.breaks = [Break(fake.calls + 8, Refusal(502, "Bad Gateway"), None, carried_out=True)]
    result = connect(fake, ticking).close_proposal("nothing is left", base=BASE)
    assert (result.outcome, result.detail) == (ProposalOutcome.CLOSED, "")
    assert PROPOSAL_BRANCH not in fake.refs


def test_a_branch_that_moves_before_its_deletion_is_kept(fake, ticking):
    go(connect(fake, ticking), FILES, PROPOSAL)
    last = fake.calls + 8
    fake.between = lambda number, github: person_adds_a_commit(github) if number == last else None
    result = connect(fake, ticking).close_proposal("nothing is left", base=BASE)
    assert result.outcome is ProposalOutcome.CLOSED
    assert "was changed meanwhile and is not deleted" in result.detail
    assert fake.refs[PROPOSAL_BRANCH] in by_hand(fake)


def test_labels_that_fail_do_not_hide_the_pull_request(fake, ticking):
    assert "https://github.com/o/r/pull/1" in (raised_by(fake, ticking, 9, INTEGRATION).hint or "")


@pytest.mark.parametrize(
    ("headers", "message", "least", "most"),
    [
        ({"retry-after": "7"}, "secondary rate limit", 7, 8),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1800000030"}, "API limit", 30, 32),
        ({}, "You have exceeded a secondary rate limit", 60, 61),
    ],
)
def test_a_pause_is_kept_and_the_call_sent_again(fake, ticking, headers, message, least, most):
    fake.breaks = [Break(0, Refusal(403, message, None, headers))]
    assert go(connect(fake, ticking), FILES, PROPOSAL)[1].outcome is ProposalOutcome.CREATED
    assert least <= ticking.pauses[0] <= most


def test_pauses_without_a_time_grow(fake, ticking):
    limited = Refusal(403, "You have exceeded a secondary rate limit")
    fake.breaks = [Break(at, limited) for at in range(3)]
    go(connect(fake, ticking), FILES, PROPOSAL)
    assert ticking.pauses[:3] == [60, 120, 240]


def test_a_pause_of_an_hour_is_left_for_the_next_run(fake, ticking):
    far = {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1800003600"}
    error = raised_by(fake, ticking, 0, Refusal(403, "API limit", None, far))
    assert "rate limit exceeded" in str(error)
    assert ticking.passed == 0


def test_a_forge_that_stays_down_ends_in_one_error(fake, ticking):
    fake.breaks = [Break(at, Refusal(503, "down")) for at in range(100)]
    with pytest.raises(PeerError, match="503"):
        go(connect(fake, ticking), FILES, PROPOSAL)
    assert fake.calls <= 4


# -- people, and other jobs, in between
# ------------------------------------------------------------------------


def base_moves(fake: FakeGitHub) -> None:
    fake.push(BASE, {"docs/new.md": str(fake.calls).encode()}, "docs")


def base_changes_the_index(fake: FakeGitHub) -> None:
    fake.push(BASE, {INDEX: b"schema: 1\n# by a person\n"}, "edit the index")


def person_adds_a_commit(fake: FakeGitHub) -> None:
    if PROPOSAL_BRANCH in fake.refs:
        fake.push(PROPOSAL_BRANCH, {"notes.txt": b"by hand"}, "by hand")


def person_pushes_by_force(fake: FakeGitHub) -> None:
    fake.push(PROPOSAL_BRANCH, {INDEX: b"by hand"}, "by hand", onto=fake.refs[BASE])


def person_deletes_the_branch(fake: FakeGitHub) -> None:
    if PROPOSAL_BRANCH in fake.refs:
        fake._point(PROPOSAL_BRANCH, None)


def person_closes(fake: FakeGitHub) -> None:
    for pull in fake.open_pulls():
        pull["state"] = "closed"


def person_merges(fake: FakeGitHub) -> None:
    for pull in fake.open_pulls():
        fake.merge(pull["number"])


PEOPLE = {
    action.__name__: action
    for action in (
        *(base_moves, base_changes_the_index, person_adds_a_commit, person_pushes_by_force),
        *(person_deletes_the_branch, person_closes, person_merges),
    )
}


def by_hand(fake: FakeGitHub) -> list[str]:
    """Return the commits that a person added to the proposal's branch."""
    return [sha for sha, commit in fake.commits.items() if commit["message"] == "by hand"]


def reachable(fake: FakeGitHub) -> set[str]:
    return {sha for tip in fake.refs.values() for sha in fake._ancestors(tip)}


@pytest.mark.parametrize(
    ("scene", "at"), STEPS, ids=lambda one: one.name if isinstance(one, Scene) else str(one)
)
@pytest.mark.parametrize("action", PEOPLE)
def test_nothing_a_person_does_in_between_is_lost_or_doubled(scene, at, action, fake, ticking):
    scene.prepare(fake, connect(fake, ticking))
    act_at = fake.calls + at

    def between(number: int, github: FakeGitHub) -> None:
        if number == act_at:
            PEOPLE[action](github)

    fake.between = between
    for _ in range(2):  # the run it happens in, and the next
        try:
            if scene.name in ("close", "comment"):
                scene.run(connect(fake, ticking))
            else:
                go(connect(fake, ticking), OTHER_FILES, NEWER)
        except PeerError as error:
            assert error.hint or "by" in str(error)
        assert set(by_hand(fake)) <= reachable(fake)
        assert len(fake.open_pulls()) <= 1
        if action == "base_changes_the_index" and fake.calls > act_at:
            assert fake.files(BASE)[INDEX] == b"schema: 1\n# by a person\n"


@pytest.mark.parametrize("action", PEOPLE)
def test_what_happens_between_every_pair_of_calls_ends_without_loss(action, fake, ticking):
    go(connect(fake, ticking), FILES, PROPOSAL)
    fake.between = lambda number, github: PEOPLE[action](github) if github.calls < 60 else None
    try:
        go(connect(fake, ticking), OTHER_FILES, NEWER)
    except PeerError as error:
        assert error.hint
    assert fake.calls < 80
    assert len(fake.open_pulls()) <= 1
    if action == "person_pushes_by_force":
        assert fake.refs[PROPOSAL_BRANCH] in by_hand(fake)
    else:
        assert set(by_hand(fake)) <= reachable(fake)


@pytest.mark.parametrize("at", range(10))
@pytest.mark.parametrize("files", [FILES, OTHER_FILES], ids=["the same", "another"])
def test_two_jobs_at_once_end_with_one_branch_and_one_proposal(at, files, fake, ticking):
    def between(number: int, github: FakeGitHub) -> None:
        if number == at:
            github.between = None
            go(connect(github, ticking), files, PROPOSAL)

    fake.between = between
    branch, proposal = go(connect(fake, ticking), FILES, PROPOSAL)
    assert branch.outcome is not BranchOutcome.HUMAN_EDITED
    assert proposal.number == 1
    assert len(fake.pulls) == 1
    assert set(fake.refs) == {BASE, PROPOSAL_BRANCH}
    if at < 6:  # ours moved the branch last
        assert FILES.items() <= fake.files(PROPOSAL_BRANCH).items()


# -- secrets
# ---------------------------------------------------------------------------------------------------

CANARY = 'ghs_canary/+"é'.replace("é", "e") + "Zm9v=="


def forms(secret: str) -> list[str]:
    encoded = base64.b64encode(secret.encode()).decode()
    return [secret, encoded, encoded.rstrip("="), quote(secret, safe=""), json.dumps(secret)[1:-1]]


@pytest.mark.parametrize("form", range(5))
@pytest.mark.parametrize("status", [401, 403, 404, 409, 422, 429, 500])
def test_a_token_that_github_echoes_is_shown_nowhere(status, form, ticking, caplog):
    caplog.set_level(logging.DEBUG)
    fake = FakeGitHub(token=CANARY)
    said = forms(CANARY)[form]
    notes: list[str] = []

    class Listener:
        def note(self, text: str) -> None:
            notes.append(text)

        def task(self, label, total):
            raise AssertionError

    details = [{"message": f"also {said}"}]
    refusal = Refusal(
        status,
        f"token {said} is bad",
        details,
        {"x-accepted-github-permissions": said, "x-github-sso": f"url={said}"},
    )
    fake.breaks = [Break(at, refusal) for at in range(50)]
    with pytest.raises(PeerError) as caught:
        go(connect(fake, ticking, progress=Listener()), FILES, PROPOSAL)
    shown = "\n".join([repr(caught.value), str(caught.value), str(caught.value.hint), caplog.text, *notes])
    for shape in forms(CANARY):
        assert shape not in shown


def test_a_token_is_in_nothing_that_is_sent_but_its_header(ticking):
    fake = FakeGitHub(token=CANARY)
    forge = connect(fake, ticking)
    go(forge, FILES, PROPOSAL)
    forge.upsert_comment(1, "plan", "x")
    assert CANARY not in repr(forge) + repr(vars(forge))
    for request in fake.sent:
        rest = f"{request.url} {request.content.decode()} " + " ".join(
            value for name, value in request.headers.items() if name != "authorization"
        )
        for shape in forms(CANARY):
            assert shape not in rest
