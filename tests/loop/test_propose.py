"""Resolved CIDs and records are proposed in each mode, or refused with a reason."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from reconciler.errors import InvalidIndexError, UserError
from reconciler.forges.interface import PROPOSAL_BRANCH
from reconciler.index.locations import RepositoryLayout
from reconciler.index.proposal_form import ProposalForm
from reconciler.index.records import parse_record_of
from reconciler.loop.changes import Report
from reconciler.loop.proposal_edit import IndexEdit
from reconciler.loop.propose import index_place
from reconciler.loop.settings import ProposeMode
from tests.support.releases import Releases, kinds, states, tree, with_memory

BRANCH = {"propose": ProposeMode.BRANCH}
RECORD = "releases/records/m/1.0.0.json"


def git(directory: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", directory, *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def commit(directory: Path) -> None:
    git(directory, "add", "--all", ".")
    git(directory, "commit", "--quiet", "--message", "change")


@pytest.fixture
def releases(tmp_path: Path) -> Releases:
    """One version on one memory target, committed in a repository of its own."""
    return in_repository(tmp_path, tmp_path)


def in_repository(top: Path, root: Path) -> Releases:
    releases = with_memory(root, "a")
    releases.add("m@1.0.0")
    releases.write()
    (top / ".gitignore").write_text(".reconcile/\nweights/\n")
    git(top, "init", "--quiet")
    commit(top)
    return releases


def everything(releases: Releases) -> tuple[object, ...]:
    """The working tree, git's index, HEAD and where it points."""
    root = releases.root
    head = (root / ".git/HEAD").read_text() if (root / ".git").exists() else ""
    return tree(root), git(root, "status", "--porcelain"), git(root, "rev-parse", "HEAD"), head


# -- write ---------------------------------------------------------------------------------------------------


def test_write_changes_one_line_a_version_and_adds_records(releases: Releases) -> None:
    releases.apply()
    assert git(releases.root, "status", "--porcelain") == "M releases/index.yaml\n?? releases/records/"
    assert git(releases.root, "diff", "--numstat").startswith("1\t1\t")
    assert kinds(releases.plan()) == []


def test_write_needs_no_repository(tmp_path: Path) -> None:
    releases = with_memory(tmp_path, "a")
    releases.add("m@1.0.0")
    assert not releases.apply().failed


@pytest.mark.parametrize("state", ["dirty", "detached", "unborn"])
def test_write_does_not_ask_what_state_the_repository_is_in(tmp_path: Path, state: str) -> None:
    releases = with_memory(tmp_path, "a")
    releases.add("m@1.0.0")
    releases.write()
    git(tmp_path, "init", "--quiet")
    if state != "unborn":
        commit(tmp_path)
    if state == "detached":
        git(tmp_path, "checkout", "--quiet", "--detach")
    if state == "dirty":
        releases.add("m@2.0.0")
    assert not releases.apply().failed
    assert kinds(releases.plan()) == []


def test_a_file_that_changed_meanwhile_is_not_overwritten(releases: Releases) -> None:
    edited = releases.index_file.read_text().replace("acme", "acme2")
    releases.memory["a"].faults["publish"] = lambda: releases.index_file.write_text(edited)
    releases.write()
    with releases.running() as run:
        report = run.apply(run.plan())
    failed = [o for o in report.outcomes if o.state == "failed"]
    assert {o.change.kind for o in failed} == {"resolve-cid", "write-record"}
    assert "changed meanwhile" in failed[0].detail
    assert releases.index_file.read_text() == edited
    assert not list(releases.index_file.parent.glob(".index-*"))


def test_an_existing_record_does_not_prevent_a_proposal(releases: Releases) -> None:
    """A run that was killed between the record and the index left only the record."""
    releases.apply()
    text = (releases.root / RECORD).read_text()
    releases.change("m@1.0.0", cid=None)
    assert kinds(releases.plan()) == [("resolve-cid", "m@1.0.0", None)]
    assert not releases.apply().failed
    assert (releases.root / RECORD).read_text() == text


# -- branch --------------------------------------------------------------------------------------------------


def test_a_branch_takes_the_proposal_and_nothing_else_moves(releases: Releases) -> None:
    before = everything(releases)
    report = releases.apply(**BRANCH)
    assert not report.failed
    assert report.outcomes[-1].detail == f"branch {PROPOSAL_BRANCH} created"
    assert everything(releases) == before
    assert git(releases.root, "diff", "--name-only", "HEAD", PROPOSAL_BRANCH).split() == [
        "releases/index.yaml",
        RECORD,
    ]
    root = next(iter(releases.memory["a"].held))
    assert f"- m@1.0.0: {root}" in git(releases.root, "log", "-1", "--format=%B", PROPOSAL_BRANCH)


def test_after_a_proposal_the_plan_is_empty_and_notes_the_branch(releases: Releases) -> None:
    releases.apply(**BRANCH)
    tip = git(releases.root, "rev-parse", PROPOSAL_BRANCH)
    plan = releases.plan(**BRANCH)
    assert kinds(plan) == []
    assert f"the branch {PROPOSAL_BRANCH} proposes the CIDs of 1 versions; merge it" in plan.notes
    releases.apply(**BRANCH)
    assert git(releases.root, "rev-parse", PROPOSAL_BRANCH) == tip
    git(releases.root, "merge", "--quiet", PROPOSAL_BRANCH)
    releases.take_over()
    releases.index_file.write_text(git(releases.root, "show", "HEAD:releases/index.yaml"))
    with releases.running(**BRANCH) as run:
        assert kinds(run.plan()) == []


def test_a_new_version_moves_the_branch(releases: Releases) -> None:
    releases.apply(**BRANCH)
    releases.add("m@2.0.0")
    releases.write()
    commit(releases.root)
    report = releases.apply(**BRANCH)
    assert report.outcomes[-1].detail == f"branch {PROPOSAL_BRANCH} updated"
    assert git(releases.root, "rev-list", "--count", f"HEAD..{PROPOSAL_BRANCH}") == "1"
    assert kinds(releases.plan(**BRANCH)) == []


def test_a_branch_that_a_person_edited_is_left_alone(releases: Releases) -> None:
    releases.apply(**BRANCH)
    git(releases.root, "switch", "--quiet", PROPOSAL_BRANCH)
    (releases.root / "README").write_text("by hand")
    commit(releases.root)
    git(releases.root, "switch", "--quiet", "main")
    tip = git(releases.root, "rev-parse", PROPOSAL_BRANCH)
    report = releases.apply(**BRANCH)
    assert {state for *_, state in states(report)} == {"failed"}
    assert "has commit" in report.outcomes[0].detail
    assert report.outcomes[0].hint == "merge or delete that branch, then run again"
    assert git(releases.root, "rev-parse", PROPOSAL_BRANCH) == tip


def test_an_index_with_changes_that_are_not_committed_is_refused_before_anything_is_done(
    releases: Releases,
) -> None:
    releases.add("m@2.0.0")
    with pytest.raises(UserError, match="uncommitted changes"):
        releases.apply(**BRANCH)
    assert releases.memory["a"].writes() == 0


def test_other_files_may_have_changes(releases: Releases) -> None:
    (releases.root / "notes.txt").write_text("unfinished")
    git(releases.root, "add", "notes.txt")
    before = everything(releases)
    assert not releases.apply(**BRANCH).failed
    assert everything(releases) == before
    assert "notes.txt" not in git(releases.root, "ls-tree", "--name-only", PROPOSAL_BRANCH)


def test_a_run_without_a_proposal_asks_nothing_of_the_repository(tmp_path: Path) -> None:
    releases = with_memory(tmp_path, "a")
    releases.add("m@1.0.0")
    releases.apply()
    releases.memory["a"].held.clear()
    assert not releases.apply(**BRANCH).failed


def test_a_detached_head_is_fine(releases: Releases) -> None:
    git(releases.root, "checkout", "--quiet", "--detach")
    assert not releases.apply(**BRANCH).failed
    assert git(releases.root, "rev-parse", f"{PROPOSAL_BRANCH}^") == git(releases.root, "rev-parse", "HEAD")


@pytest.mark.parametrize(("born", "message"), [(False, "no commit yet"), (None, "not in a git repository")])
def test_a_missing_repository_or_commit_is_reported_before_anything_is_done(
    tmp_path: Path, born: bool | None, message: str
) -> None:
    releases = with_memory(tmp_path, "a")
    releases.add("m@1.0.0")
    if born is not None:
        git(tmp_path, "init", "--quiet")
    with pytest.raises(UserError, match=message) as caught:
        releases.apply(**BRANCH)
    assert "--propose write" in (caught.value.hint or "")
    assert releases.memory["a"].writes() == 0


def test_an_index_below_the_top_of_its_repository_is_committed_where_it_lies(tmp_path: Path) -> None:
    releases = in_repository(tmp_path, tmp_path / "models" / "llm")
    assert not releases.apply(**BRANCH).failed
    assert git(tmp_path, "diff", "--name-only", "HEAD", PROPOSAL_BRANCH).split() == [
        "models/llm/releases/index.yaml",
        f"models/llm/{RECORD}",
    ]
    assert kinds(releases.plan(**BRANCH)) == []


# -- frozen CIDs ---------------------------------------------------------------------------------------------


def test_a_cid_that_moved_since_it_was_committed_is_refused(releases: Releases) -> None:
    releases.add("m@2.0.0")
    releases.apply()
    commit(releases.root)
    releases.change("m@1.0.0", cid=str(releases.cid("m@2.0.0")))
    (releases.root / RECORD).unlink()
    plan = releases.plan()
    assert [refusal.rule for refusal in plan.refusals] == ["frozen"]
    assert "m@1.0.0 was" in plan.refusals[0].message


# -- several indexes, and the form of proposals --------------------------------------------------------------


def test_two_indexes_of_one_repository_have_two_branches(tmp_path: Path) -> None:
    text = in_repository(tmp_path, tmp_path / "text")
    vision = with_memory(tmp_path / "vision", "a")
    vision.add("m@1.0.0")
    vision.write()
    commit(tmp_path)
    for releases in (text, vision, text, vision):
        assert not releases.apply(**BRANCH).failed
        releases.take_over()
    branches = git(tmp_path, "for-each-ref", "--format=%(refname:short)", "refs/heads/reconciler").split()
    assert len(branches) == 2
    for name, branch in (("text", branches[0]), ("vision", branches[1])):
        changed = git(tmp_path, "diff", "--name-only", "HEAD", branch).split()
        assert changed == [f"{name}/releases/index.yaml", f"{name}/{RECORD}"]
    assert kinds(text.plan(**BRANCH)) == kinds(vision.plan(**BRANCH)) == []


def test_a_run_that_sees_less_adds_to_the_branch(releases: Releases) -> None:
    releases.add("m@2.0.0")
    releases.add("n@1.0.0")
    releases.write()
    commit(releases.root)
    for only in ("m@1.0.0", "n", "m@2.0.0"):
        assert not releases.apply(only=(only,), **BRANCH).failed
    message = git(releases.root, "log", "-1", "--format=%B", PROPOSAL_BRANCH)
    assert [ref in message for ref in ("m@1.0.0", "m@2.0.0", "n@1.0.0")] == [True] * 3
    changed = git(releases.root, "diff", "--name-only", "HEAD", PROPOSAL_BRANCH).split()
    assert len(changed) == 4
    tip = git(releases.root, "rev-parse", PROPOSAL_BRANCH)
    for only in ("m@1.0.0", "n", "*"):
        releases.apply(only=(only,), **BRANCH)
    assert git(releases.root, "rev-parse", PROPOSAL_BRANCH) == tip


def test_what_was_merged_removed_or_suspended_leaves_the_proposal(releases: Releases) -> None:
    for ref in ("m@2.0.0", "m@3.0.0", "m@4.0.0", "n@1.0.0"):
        releases.add(ref)
    releases.write()
    commit(releases.root)
    releases.apply(exclude=("n",), **BRANCH)
    releases.change("m@2.0.0", cid=str(next(iter(releases.memory["a"].held))))  # by hand
    releases.remove("m@3.0.0")
    releases.change("m@4.0.0", suspend=True)
    (releases.source("m@2.0.0") / "weights.bin").unlink()
    releases.write()
    commit(releases.root)
    assert not releases.apply(only=("n",), **BRANCH).failed
    message = git(releases.root, "log", "-1", "--format=%B", PROPOSAL_BRANCH)
    assert [line.split(":")[0] for line in message.splitlines() if line.startswith("- ")] == [
        "- m@1.0.0",
        "- n@1.0.0",
    ]


def test_a_changed_version_replaces_its_older_proposal(releases: Releases) -> None:
    releases.apply(**BRANCH)
    (releases.source("m@1.0.0") / "weights.bin").write_bytes(b"other bytes")
    report = releases.apply(**BRANCH)
    assert not report.failed
    (root,) = {change.root for change in report.plan.changes if change.kind == "resolve-cid"}
    assert str(root) in git(releases.root, "show", f"{PROPOSAL_BRANCH}:releases/index.yaml")
    assert str(root) in git(releases.root, "show", f"{PROPOSAL_BRANCH}:{RECORD}")
    assert "it replaces what another run proposed: m@1.0.0 was proposed as bafy" in report.outcomes[-1].detail
    assert releases.apply(**BRANCH).outcomes == ()


@dataclass(frozen=True)
class Committed:
    """The files of a commit; the base is empty."""

    files: Mapping[str, bytes]

    @property
    def changed(self) -> frozenset[str]:
        return frozenset(self.files)

    def read(self, path: str) -> bytes | None:
        return self.files.get(path)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("size", 12345, "m@1.0.0 was proposed with another record"),
        ("car_size", 12345, "m@1.0.0 was proposed with another record"),
        ("cid", "bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy", "record of bafkrei"),
        ("blocks", None, ""),
    ],
)
def test_a_proposed_record_that_contradicts_ours_is_named(
    releases: Releases, field: str, value: object, message: str
) -> None:
    with releases.running() as run:
        index = run.workspace.index
    base = {"releases/index.yaml": releases.index_file.read_bytes()}
    releases.apply()
    record = (releases.root / RECORD).read_bytes()
    ours = parse_record_of("m", "1.0.0", record, RECORD)
    resolved = releases.index_file.read_bytes()
    if field == "cid":
        base["releases/index.yaml"] = resolved
    theirs = json.loads(record)
    if value is not None:
        theirs[field] = value
    proposed = Committed({"releases/index.yaml": resolved, RECORD: json.dumps(theirs).encode()})
    edit = IndexEdit("releases/index.yaml", index, {("m", "1.0.0"): ours.cid}, [ours], ProposalForm())
    composed = edit.compose(Committed(base), proposed)
    assert composed.files[RECORD] == record
    assert (message in " ".join(edit.overruled)) if message else edit.overruled == ()


@pytest.mark.parametrize("how", ["symbolic link", "submodule", "linked work tree", "another place"])
def test_the_proposal_is_made_where_the_index_really_is(tmp_path: Path, how: str) -> None:
    home = tmp_path / "home"
    home.mkdir()
    releases = in_repository(home, home / "ml")
    place, top = "ml/releases/index.yaml", home
    outer = tmp_path / "outer"
    outer.mkdir()
    git(outer, "init", "--quiet")
    if how == "symbolic link":
        (outer / "models").symlink_to(home / "ml")
        releases.root = outer / "models"
    elif how == "submodule":
        git(outer, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(home), "models")
        commit(outer)
        releases.root = outer / "models" / "ml"
        top = outer / "models"
        (releases.root / "weights/m/1.0.0").mkdir(parents=True)
        (releases.root / "weights/m/1.0.0/weights.bin").write_bytes(b"x")
    elif how == "linked work tree":
        git(home, "worktree", "add", "--quiet", str(outer / "tree"), "-b", "topic")
        releases.root = outer / "tree" / "ml"
        releases.add("m@1.0.0")
        top = outer / "tree"
    else:
        (home / "models").mkdir()
        git(home, "mv", "ml/releases", "models/catalog")
        git(home, "mv", "models/catalog/index.yaml", "models/catalog/all.yaml")
        commit(home)
        layout = RepositoryLayout(
            home / "ml", home / "models/catalog/all.yaml", home / "models/catalog/targets.yaml", home / "ml"
        )
        assert index_place(layout) == (home.resolve(), "models/catalog/all.yaml")
        return
    assert not releases.apply(**BRANCH).failed
    assert place in git(top, "diff", "--name-only", "HEAD", PROPOSAL_BRANCH).split()


def test_an_index_that_is_a_link_is_not_proposed_to(releases: Releases) -> None:
    real = releases.index_file.rename(releases.root / "real.yaml")
    releases.index_file.symlink_to(real)
    with pytest.raises(UserError, match="is a symbolic link"):
        index_place(releases.layout())


def set_form(releases: Releases, **form: object) -> None:
    """Add `proposals:` to the targets file, and commit it."""
    releases.write()
    file = releases.index_file.with_name("targets.yaml")
    file.write_text(json.dumps({**json.loads(file.read_text()), "proposals": form}))
    commit(releases.root)


def run_as_written(releases: Releases) -> Report:
    with releases.running(**BRANCH) as run:
        return run.apply(run.plan())


def test_commits_have_the_form_that_the_repository_demands(releases: Releases) -> None:
    run_as_written(releases)
    set_form(releases, sign_off=True, title="chore(models): {title} [REL-1]")
    assert not run_as_written(releases).failed
    message = git(releases.root, "log", "-1", "--format=%B", PROPOSAL_BRANCH)
    author = git(releases.root, "log", "-1", "--format=%an <%ae>", PROPOSAL_BRANCH)
    assert message.startswith("chore(models): Resolve m@1.0.0 [REL-1]\n\n- m@1.0.0: baf")
    trailers = git(releases.root, "log", "-1", "--format=%(trailers:key=Signed-off-by)", PROPOSAL_BRANCH)
    assert trailers == f"Signed-off-by: {author}"
    with releases.running(**BRANCH) as run:
        assert kinds(run.plan()) == []


@pytest.mark.parametrize(
    ("form", "problem"),
    [
        ({"sign_off": "yes"}, "must be true or false"),
        ({"title": ""}, "is empty"),
        ({"trailer": "x"}, "unknown key 'trailer'"),
    ],
)
def test_a_wrong_form_is_an_error(releases: Releases, form: dict[str, object], problem: str) -> None:
    set_form(releases, **form)
    with pytest.raises(InvalidIndexError, match=problem):
        run_as_written(releases)
