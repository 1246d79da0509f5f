"""The contract of a forge as a suite of tests.

A test of a forge subclasses `ForgeSuite`, gives a `subject` fixture, and sets the fields in which it differs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar, Protocol

import pytest

from reconciler.errors import PeerError, UsageError
from reconciler.forges.branch_names import BranchNames
from reconciler.forges.content_marker import add_marker
from reconciler.forges.interface import (
    PROPOSAL_BRANCH,
    BranchOutcome,
    BranchResult,
    CommentOutcome,
    Composed,
    Forge,
    Proposal,
    ProposalOutcome,
    ProposalResult,
    SetFiles,
)
from reconciler.forges.propose import propose

INDEX = "releases/index.yaml"
RECORD = "releases/records/a/1.0.0.json"
FILES = {INDEX: b"schema: 1\ncid: resolved\n", RECORD: b"{}\n"}
OTHER_FILES = {INDEX: b"schema: 1\ncid: another\n"}
MESSAGE = "Resolve the CID of a@1.0.0"
PROPOSAL = Proposal("Resolve CIDs", "One version.\n\n| a | b |\n|---|---|\n", base="main")
MARKER = "plan"


@dataclass(frozen=True)
class Seen:
    """A pull request on the forge."""

    number: int
    open: bool
    title: str
    body: str
    base: str
    labels: frozenset[str] = frozenset()


@dataclass
class AddingEdit:
    """The edit of one index that appends to its file, and keeps what is proposed beside it.

    `seen` is what the open proposal changed. Implements `ProposedEdit`.
    """

    files: Mapping[str, bytes]
    place: str = INDEX
    items: tuple[str, ...] = ("an item",)
    sign_off: bool = False
    proposal: Proposal = PROPOSAL
    seen: dict[str, bytes | None] = field(default_factory=dict)

    @property
    def names(self) -> BranchNames:
        return BranchNames.of(self.place)

    def owns(self, changed):
        return any(path.startswith(self.place.removesuffix("index.yaml")) for path in changed)

    def compose(self, base, proposed):
        self.seen = {} if proposed is None else {path: proposed.read(path) for path in proposed.changed}
        ours = {path: (base.read(path) or b"") + data for path, data in self.files.items()}
        return Composed({**self.seen, **ours}, MESSAGE)

    def describe(self, branch):
        body = add_marker(self.proposal.body, self.place, self.items)
        return replace(self.proposal, branch=branch, body=body)


@dataclass
class FixedEdit(AddingEdit):
    """The edit that sets files and has its text as given, whatever else is proposed."""

    items: tuple[str, ...] = ()

    def owns(self, changed):
        return True

    def compose(self, base, proposed):
        return Composed(self.files, MESSAGE)

    def describe(self, branch):
        return self.proposal


class Subject(Protocol):
    """A repository whose branch `main` has INDEX, with actions of people that bypass the code under test."""

    forge: Forge

    def another_job(self) -> Forge:
        """Open the same forge like another process."""

    def push(self, branch: str, files: Mapping[str, bytes], *, onto: str | None = None) -> str:
        """Commit to `branch` as a person, by force on top of `onto` if given; return the commit id."""

    def delete_branch(self, branch: str) -> None:
        """Delete a branch as a person."""

    def tip(self, branch: str) -> str | None:
        """Return the commit id at the tip of a branch; None when it does not exist."""

    def message(self, commit: str) -> tuple[str, str]:
        """Return the message of a commit, and its author as `Name <email>`."""

    def parents(self, commit: str) -> tuple[str, ...]:
        """Return the parents of a commit."""

    def files(self, branch: str) -> Mapping[str, bytes]:
        """Return all files of a branch by path."""

    def proposals(self) -> list[Seen]:
        """Return all pull requests, open and closed."""

    def merge(self, number: int, *, squash: bool) -> None:
        """Merge a pull request as a person and keep its branch."""

    def close(self, number: int) -> None:
        """Close a pull request as a person."""

    def comments(self, number: int) -> list[str]:
        """Return the comments on a pull request, oldest first."""

    def stranger_comments(self, number: int, body: str) -> None:
        """Comment on a pull request from another account."""

    def make_unreachable(self) -> None:
        """Stop the forge, so that all further calls must fail."""


def snapshot(subject: Subject) -> object:
    """Return everything that a second run must not change."""
    branches = {name: subject.tip(name) for name in ("main", PROPOSAL_BRANCH)}
    proposals = subject.proposals()
    return branches, proposals, [subject.comments(one.number) for one in proposals]


class ForgeSuite:
    """The suite. Subclass it as `Test…` with a `subject` fixture."""

    #: whether commits of ours are shown as verified
    verified: ClassVar[bool | None] = None
    #: whether the forge accepts labels by name
    has_labels: ClassVar[bool] = True

    def place(self, subject: Subject, files: Mapping[str, bytes] = FILES) -> BranchResult:
        return subject.forge.ensure_branch(SetFiles(files, MESSAGE), base="main")

    def open_proposals(self, subject: Subject) -> list[Seen]:
        return [one for one in subject.proposals() if one.open]

    # -- the branch ------------------------------------------------------------------------------------------

    def test_a_branch_is_one_commit_on_the_base_that_sets_the_files(self, subject):
        before = dict(subject.files("main"))
        result = self.place(subject)
        assert result.outcome is BranchOutcome.CREATED
        assert result.sha == subject.tip(PROPOSAL_BRANCH)
        assert subject.parents(result.sha) == (subject.tip("main"),)
        assert subject.files(PROPOSAL_BRANCH) == {**before, **FILES}
        assert subject.files("main") == before
        assert result.verified is self.verified

    def test_the_same_branch_again_changes_nothing(self, subject):
        first = self.place(subject)
        before = snapshot(subject)
        again = self.place(subject)
        assert (again.outcome, again.sha) == (BranchOutcome.UNCHANGED, first.sha)
        assert snapshot(subject) == before

    def test_other_files_replace_the_commit(self, subject):
        self.place(subject)
        result = self.place(subject, OTHER_FILES)
        assert result.outcome is BranchOutcome.UPDATED
        assert subject.parents(result.sha) == (subject.tip("main"),)
        assert subject.files(PROPOSAL_BRANCH) == {**subject.files("main"), **OTHER_FILES}

    def test_the_branch_follows_a_base_that_changed_other_files(self, subject):
        self.place(subject)
        subject.push("main", {"docs/new.md": b"new\n"})
        result = self.place(subject)
        assert result.outcome is BranchOutcome.UPDATED
        assert subject.parents(result.sha) == (subject.tip("main"),)
        assert "docs/new.md" in subject.files(PROPOSAL_BRANCH)

    def test_an_edit_is_made_on_the_base_as_it_is_now(self, subject):
        subject.push("main", {INDEX: b"schema: 1\n# by a person\n"})
        edit = AddingEdit({INDEX: b"cid: x\n"})
        subject.forge.ensure_branch(edit, base="main")
        assert subject.files(PROPOSAL_BRANCH)[INDEX] == b"schema: 1\n# by a person\ncid: x\n"

    @pytest.mark.parametrize("adds", [True, False])
    def test_an_edit_sees_what_an_open_proposal_changes(self, subject, adds):
        subject.forge.ensure_branch(
            AddingEdit({RECORD: b"one\n", "releases/b": bytes(range(256))}), base="main"
        )
        edit = AddingEdit({"releases/c": b"two\n"})
        subject.forge.ensure_branch(edit, base="main", adds=adds)
        seen = {RECORD: b"one\n", "releases/b": bytes(range(256))} if adds else {}
        assert edit.seen == seen
        assert seen.items() <= subject.files(PROPOSAL_BRANCH).items()
        assert (RECORD in subject.files(PROPOSAL_BRANCH)) is adds

    def test_a_branch_of_another_index_is_taken(self, subject):
        self.place(subject)
        before = snapshot(subject)
        other = AddingEdit({"ml/releases/index.yaml": b"x"}, place="ml/releases/index.yaml")
        assert subject.forge.ensure_branch(other, base="main").outcome is BranchOutcome.TAKEN
        assert snapshot(subject) == before
        assert subject.forge.locate_branch(other.names, base="main", owns=other.owns) == other.names.own

    def test_another_message_replaces_the_commit(self, subject):
        self.place(subject)
        edit = SetFiles(FILES, "chore: another message")
        assert subject.forge.ensure_branch(edit, base="main").outcome is BranchOutcome.UPDATED
        assert subject.forge.ensure_branch(edit, base="main").outcome is BranchOutcome.UNCHANGED

    def test_a_commit_can_be_signed_off_by_its_author(self, subject):
        self.place(subject)
        edit = SetFiles(FILES, MESSAGE, sign_off=True)
        assert subject.forge.ensure_branch(edit, base="main").outcome is BranchOutcome.UPDATED
        result = subject.forge.ensure_branch(edit, base="main")
        assert result.outcome is BranchOutcome.UNCHANGED
        message, author = subject.message(result.sha)
        assert message.splitlines()[-2] == f"Signed-off-by: {author}"
        assert message.splitlines()[-3] == ""

    def test_files_that_the_base_contains_need_no_branch(self, subject):
        result = self.place(subject, {INDEX: subject.files("main")[INDEX]})
        assert (result.outcome, result.sha) == (BranchOutcome.EMPTY, subject.tip("main"))
        assert subject.tip(PROPOSAL_BRANCH) is None

    def test_a_persons_commit_on_top_is_left_alone(self, subject):
        self.place(subject)
        theirs = subject.push(PROPOSAL_BRANCH, {"notes.txt": b"by hand\n"})
        for files in (FILES, OTHER_FILES):
            result = self.place(subject, files)
            assert (result.outcome, result.sha) == (BranchOutcome.HUMAN_EDITED, theirs)
            assert theirs[:12] in result.detail
        assert subject.tip(PROPOSAL_BRANCH) == theirs

    def test_a_branch_that_a_person_pushed_by_force_is_left_alone(self, subject):
        self.place(subject)
        theirs = subject.push(PROPOSAL_BRANCH, {INDEX: b"by hand\n"}, onto=subject.tip("main"))
        assert self.place(subject).outcome is BranchOutcome.HUMAN_EDITED
        assert subject.tip(PROPOSAL_BRANCH) == theirs

    def test_a_branch_that_a_person_deleted_is_created_again(self, subject):
        self.place(subject)
        subject.delete_branch(PROPOSAL_BRANCH)
        assert self.place(subject).outcome is BranchOutcome.CREATED

    @pytest.mark.parametrize("squash", [False, True])
    def test_after_a_merge_nothing_is_left_and_the_branch_is_reused(self, subject, squash):
        self.place(subject)
        number = subject.forge.ensure_proposal(PROPOSAL).number
        subject.merge(number, squash=squash)
        assert self.place(subject).outcome is BranchOutcome.EMPTY
        assert subject.forge.close_proposal("done", base="main").outcome is ProposalOutcome.NONE
        assert self.place(subject, OTHER_FILES).outcome is BranchOutcome.UPDATED
        result = subject.forge.ensure_proposal(PROPOSAL)
        assert result.outcome is ProposalOutcome.CREATED
        assert [one.number for one in self.open_proposals(subject)] == [result.number]

    def test_files_of_any_bytes_and_names_arrive(self, subject):
        files = {"a b/ü 'q' $HOME.txt": b"x", "[a]*?.bin": bytes(range(256)), "empty": b""}
        self.place(subject, files)
        assert files.items() <= subject.files(PROPOSAL_BRANCH).items()

    @pytest.mark.parametrize("path", ["../up", "/etc/passwd", ".git/config", "a//b"])
    def test_a_path_that_leaves_the_repository_is_refused(self, subject, path):
        before = snapshot(subject)
        with pytest.raises(UsageError):
            self.place(subject, {path: b"x"})
        assert snapshot(subject) == before

    def test_a_missing_base_is_reported(self, subject):
        with pytest.raises(PeerError, match="nowhere"):
            subject.forge.ensure_branch(SetFiles(FILES, MESSAGE), base="nowhere")

    # -- the pull request ------------------------------------------------------------------------------------

    def test_a_proposal_is_opened_once(self, subject):
        self.place(subject)
        first = subject.forge.ensure_proposal(PROPOSAL)
        before = snapshot(subject)
        again = subject.another_job().ensure_proposal(PROPOSAL)
        assert first.outcome is ProposalOutcome.CREATED
        assert (again.outcome, again.number, again.url) == (
            ProposalOutcome.UNCHANGED,
            first.number,
            first.url,
        )
        assert snapshot(subject) == before
        (seen,) = subject.proposals()
        assert (seen.title, seen.body.strip(), seen.base) == (PROPOSAL.title, PROPOSAL.body.strip(), "main")
        assert str(first.number) in (first.url or "")

    def test_a_proposal_shows_the_newest_text(self, subject):
        self.place(subject)
        number = subject.forge.ensure_proposal(PROPOSAL).number
        newer = Proposal("Resolve two CIDs", "Two versions.", base="main")
        result = subject.forge.ensure_proposal(newer)
        assert (result.outcome, result.number) == (ProposalOutcome.UPDATED, number)
        assert [(one.title, one.body.strip()) for one in subject.proposals()] == [(newer.title, newer.body)]
        assert subject.forge.ensure_proposal(newer).outcome is ProposalOutcome.UNCHANGED

    def test_a_proposal_closed_by_hand_is_opened_again(self, subject):
        self.place(subject)
        subject.close(subject.forge.ensure_proposal(PROPOSAL).number)
        result = subject.forge.ensure_proposal(PROPOSAL)
        assert result.outcome is ProposalOutcome.CREATED
        assert [one.number for one in self.open_proposals(subject)] == [result.number]

    def test_two_jobs_share_one_proposal(self, subject):
        other = subject.another_job()
        self.place(subject)
        other.ensure_branch(SetFiles(OTHER_FILES, MESSAGE), base="main")
        subject.forge.ensure_proposal(PROPOSAL)
        other.ensure_proposal(PROPOSAL)
        assert len(subject.proposals()) == 1
        assert subject.files(PROPOSAL_BRANCH)[INDEX] == OTHER_FILES[INDEX]

    def test_labels_are_added_and_never_removed(self, subject):
        if not self.has_labels:
            pytest.skip("this forge takes no labels by name")
        self.place(subject)
        subject.forge.ensure_proposal(Proposal("T", "B", base="main", labels=("one",)))
        result = subject.forge.ensure_proposal(Proposal("T", "B", base="main", labels=("two",)))
        assert result.outcome is ProposalOutcome.UPDATED
        assert self.open_proposals(subject)[0].labels == {"one", "two"}

    @pytest.mark.parametrize("text", ["::error::x", "<script>x</script>", "```\n# x", "-->", "%0A", "$(id)"])
    def test_hostile_text_is_text(self, subject, text):
        self.place(subject)
        subject.forge.ensure_proposal(Proposal(f"t {text.splitlines()[0]}", f"b {text}", base="main"))
        (seen,) = subject.proposals()
        assert (seen.title, seen.body) == (f"t {text.splitlines()[0]}", f"b {text}")

    def test_closing_comments_closes_and_deletes_the_branch(self, subject):
        self.place(subject)
        number = subject.forge.ensure_proposal(PROPOSAL).number
        result = subject.forge.close_proposal("nothing is left", base="main")
        assert (result.outcome, result.number) == (ProposalOutcome.CLOSED, number)
        assert self.open_proposals(subject) == []
        assert "nothing is left" in subject.comments(number)[-1]
        assert subject.tip(PROPOSAL_BRANCH) is None
        assert subject.forge.close_proposal("again", base="main").outcome is ProposalOutcome.NONE

    def test_closing_leaves_what_a_person_edited(self, subject):
        self.place(subject)
        subject.forge.ensure_proposal(PROPOSAL)
        subject.push(PROPOSAL_BRANCH, {"notes.txt": b"by hand\n"})
        before = snapshot(subject)
        result = subject.forge.close_proposal("nothing is left", base="main")
        assert result.outcome is ProposalOutcome.UNCHANGED
        assert "by hand" in result.detail
        assert snapshot(subject) == before

    # -- a whole proposal ------------------------------------------------------------------------------------

    def propose(self, subject, files=FILES, **options) -> ProposalResult:
        edit = AddingEdit(files, **options)
        return propose(subject.another_job(), edit, base="main", close_comment="nothing is left")[1]

    def test_two_indexes_have_two_branches_and_two_pull_requests(self, subject):
        other = {"place": "ml/releases/index.yaml", "items": ("other",)}
        subject.push("main", {"ml/releases/index.yaml": b"schema: 1\n"})
        first = self.propose(subject)
        second = self.propose(subject, {"ml/releases/index.yaml": b"cid: y\n"}, **other)
        assert first.number != second.number
        assert len(self.open_proposals(subject)) == 2
        before = subject.proposals()
        assert self.propose(subject).outcome is ProposalOutcome.UNCHANGED
        nothing = self.propose(subject, {}, place="third/releases/index.yaml", items=())
        assert nothing.outcome is ProposalOutcome.NONE  # an index with nothing to do closes nothing
        assert subject.proposals() == before
        subject.push("main", {"ml/releases/index.yaml": b"schema: 1\ncid: y\n"})
        done = self.propose(
            subject, {"ml/releases/index.yaml": b""}, place="ml/releases/index.yaml", items=()
        )
        assert (done.outcome, done.number) == (ProposalOutcome.CLOSED, second.number)
        assert [one.number for one in self.open_proposals(subject)] == [first.number]

    @pytest.mark.parametrize(
        "how",
        [
            "close",
            *(
                pytest.param(each, marks=pytest.mark.slow)
                for each in ("delete the branch", "close and move the base")
            ),
        ],
    )
    def test_a_proposal_that_a_person_closed_stays_closed_until_its_content_changes(self, subject, how):
        number = self.propose(subject, items=("one", "two")).number
        subject.close(number)
        if how == "delete the branch":
            subject.delete_branch(PROPOSAL_BRANCH)
        if how == "close and move the base":
            subject.push("main", {"README.md": b"new\n"})
        before = snapshot(subject)
        for items in (("one", "two"), ("two",)):  # all of it, or what a partial run sees of it
            result = self.propose(subject, items=items)
            assert (result.outcome, result.number) == (ProposalOutcome.DECLINED, number)
            assert "stays closed" in result.detail
        assert snapshot(subject) == before
        result = self.propose(subject, items=("one", "two", "three"))
        assert result.outcome is ProposalOutcome.CREATED
        assert self.propose(subject, items=("one",)).outcome is not ProposalOutcome.DECLINED

    def test_what_we_closed_ourselves_is_opened_again(self, subject):
        number = self.propose(subject).number
        start = subject.files("main")[INDEX]
        subject.push("main", {INDEX: start + FILES[INDEX], RECORD: FILES[RECORD]})
        assert self.propose(subject, {}, items=()).outcome is ProposalOutcome.CLOSED
        subject.push("main", {INDEX: start})
        assert self.propose(subject).outcome is ProposalOutcome.CREATED
        assert number not in [one.number for one in self.open_proposals(subject)]

    @pytest.mark.parametrize("squash", [False, True])
    def test_what_was_merged_and_reverted_may_be_proposed_again(self, subject, squash):
        start = dict(subject.files("main"))
        subject.merge(self.propose(subject).number, squash=squash)
        subject.push("main", {INDEX: start[INDEX], RECORD: b"reverted\n"})
        assert self.propose(subject).outcome is ProposalOutcome.CREATED

    def test_a_proposal_without_a_marker_is_adopted(self, subject):
        self.place(subject)  # as an earlier release made it
        number = subject.forge.ensure_proposal(PROPOSAL).number
        result = self.propose(subject, {"releases/records/b/1.0.0.json": b"{}\n"})
        assert (result.outcome, result.number) == (ProposalOutcome.UPDATED, number)
        assert "releases/records/a/1.0.0.json" in subject.files(PROPOSAL_BRANCH)

    # -- the comment -----------------------------------------------------------------------------------------

    def test_there_is_one_comment_with_the_newest_text(self, subject):
        self.place(subject)
        number = subject.forge.ensure_proposal(PROPOSAL).number
        say = subject.forge.upsert_comment
        assert say(number, MARKER, "first") is CommentOutcome.CREATED
        assert say(number, MARKER, "first") is CommentOutcome.UNCHANGED
        assert say(number, MARKER, "second") is CommentOutcome.UPDATED
        (comment,) = subject.comments(number)
        assert comment.endswith("second")
        assert say(number, "other", "beside") is CommentOutcome.CREATED
        assert len(subject.comments(number)) == 2

    def test_a_comment_that_may_only_be_updated_is_not_created(self, subject):
        self.place(subject)
        number = subject.forge.ensure_proposal(PROPOSAL).number
        say = subject.forge.upsert_comment
        assert say(number, MARKER, "first", create=False) is CommentOutcome.NONE
        assert subject.comments(number) == []
        say(number, MARKER, "first")
        assert say(number, MARKER, "second", create=False) is CommentOutcome.UPDATED
        assert len(subject.comments(number)) == 1

    def test_a_comment_of_another_account_is_not_ours_even_with_our_marker(self, subject):
        self.place(subject)
        number = subject.forge.ensure_proposal(PROPOSAL).number
        subject.forge.upsert_comment(number, MARKER, "ours")
        ours = subject.comments(number)[0]
        subject.forge.upsert_comment(number, "other", "x")
        forged = ours.replace(MARKER, "forged")
        subject.stranger_comments(number, forged)
        assert subject.forge.upsert_comment(number, "forged", "ours") is CommentOutcome.CREATED
        assert subject.comments(number).count(forged) == 2
        subject.forge.upsert_comment(number, "forged", "newer")
        assert forged in subject.comments(number)

    def test_a_marker_that_could_end_the_html_comment_is_refused(self, subject):
        with pytest.raises(UsageError):
            subject.forge.upsert_comment(1, "x -->", "body")

    # -- the token and the wire
    # --------------------------------------------------------------------------------

    def test_access_names_the_account_and_its_abilities(self, subject):
        before = snapshot(subject)
        access = subject.forge.access()
        assert access.login
        assert access.abilities
        assert all(one.granted is not False for one in access.abilities)
        assert snapshot(subject) == before

    def test_an_unreachable_forge_is_a_peer_error(self, subject):
        subject.make_unreachable()
        with pytest.raises(PeerError):
            self.place(subject)
        with pytest.raises(PeerError):
            subject.forge.ensure_proposal(PROPOSAL)
        with pytest.raises(PeerError):
            subject.forge.access()

    def test_closing_the_connection_twice_is_allowed(self, subject):
        subject.forge.close()
        subject.forge.close()
