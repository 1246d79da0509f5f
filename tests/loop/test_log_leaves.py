"""What happened to versions is written into the audit log: by the proposal itself, or by the next plan."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

from reconciler.errors import InvalidIndexError
from reconciler.forges.interface import PROPOSAL_BRANCH
from reconciler.loop.log_leaves import log_directory, log_reader, logged_versions, write_log_files
from reconciler.loop.settings import ProposeMode
from reconciler.trust.leaves import LogLeaf, read_chain, replay
from tests.loop.test_propose import BRANCH, commit, git, in_repository
from tests.support.releases import Releases, kinds, with_memory

KEY = "example.org/acme+1b64bcad+AZmRSFZl3qkD6zWvT9Wk7aPD3rcOdCnkl+r1wzRyTFBf"


@pytest.fixture
def releases(tmp_path: Path) -> Releases:
    """Two versions on one memory target in a repository with an audit log."""
    releases = with_memory(tmp_path, "a")
    releases.audit = {"log": {"key": KEY}}
    releases.add("m@1.0.0")
    releases.add("org/N@2.0.0+cu118")
    releases.write()
    (tmp_path / ".gitignore").write_text(".reconcile/\nweights/\n")
    git(tmp_path, "init", "--quiet")
    commit(tmp_path)
    return releases


def chain(releases: Releases, ref: str) -> tuple[LogLeaf, ...]:
    model, _, version = ref.rpartition("@")
    return read_chain(log_reader(log_directory(releases.index_file)), model, version)


def events(releases: Releases, ref: str) -> list[str]:
    return [leaf.event.value for leaf in chain(releases, ref)]


def test_the_run_that_writes_a_cid_writes_its_leaf_and_then_the_plan_is_empty(releases: Releases) -> None:
    assert not releases.apply().failed
    (leaf,) = chain(releases, "m@1.0.0")
    assert (leaf.index, leaf.cid) == ("acme", str(releases.cid("m@1.0.0")))
    record = (releases.root / "releases/records/m/1.0.0.json").read_bytes()
    assert leaf.record == hashlib.sha256(record).hexdigest()
    assert events(releases, "org/N@2.0.0+cu118") == ["release"]
    assert kinds(releases.plan()) == []
    assert (releases.root / "releases/log/.gitattributes").read_bytes() == b"* -text\n"


def test_a_repository_without_a_log_is_left_as_it_was(tmp_path: Path) -> None:
    releases = in_repository(tmp_path, tmp_path)
    releases.apply()
    assert not (tmp_path / "releases/log").exists()
    assert kinds(releases.plan()) == []


def test_what_people_write_into_the_index_is_logged_by_the_next_run(releases: Releases) -> None:
    releases.apply()
    ref = "m@1.0.0"
    steps: list[tuple[dict[str, object], list[str]]] = [
        ({"yanked": "wrong tokenizer"}, ["yank"]),
        ({"yanked": None, "retired": True}, ["unyank", "retire"]),
        ({"retired": None}, ["restore"]),
    ]
    done = ["release"]
    for change, expected in steps:
        releases.change(ref, **change)
        plan = releases.plan()
        assert kinds(plan) == [("write-leaf", ref, None)]
        assert plan.changes[0].events == tuple(expected)
        assert not releases.apply().failed
        done += expected
        assert events(releases, ref) == done
        assert kinds(releases.plan()) == []


def test_a_version_that_leaves_the_index_and_returns_is_logged(releases: Releases) -> None:
    releases.apply()
    entry = releases.remove("m@1.0.0")
    releases.apply()
    assert kinds(releases.plan()) == []
    releases.fields["m"] = {"1.0.0": entry}
    releases.apply()
    assert events(releases, "m@1.0.0") == ["release", "remove", "return"]
    assert kinds(releases.plan()) == []


def test_a_run_over_part_of_the_index_logs_nothing_else(releases: Releases) -> None:
    releases.apply(only=("m",))
    releases.remove("org/N@2.0.0+cu118")
    releases.change("m@1.0.0", yanked="broken")
    assert kinds(releases.plan(only=("m",))) == [("write-leaf", "m@1.0.0", None)]


def test_a_suspended_version_is_left_alone(releases: Releases) -> None:
    releases.apply()
    releases.change("m@1.0.0", yanked="broken", suspend=True)
    assert kinds(releases.plan()) == []


def test_nothing_is_logged_where_nothing_is_proposed(releases: Releases) -> None:
    releases.apply(propose=ProposeMode.NONE)
    assert kinds(releases.plan(propose=ProposeMode.NONE)) == []
    assert not (releases.root / "releases/log").exists()


def test_an_index_that_starts_its_log_logs_what_it_released_before(releases: Releases) -> None:
    log, releases.audit = releases.audit, {}
    releases.apply()
    releases.change("m@1.0.0", yanked="broken")
    releases.audit = log
    assert [kind for kind, *_ in kinds(releases.plan())] == ["write-leaf", "write-leaf"]
    releases.apply()
    assert events(releases, "m@1.0.0") == ["release", "yank"]
    assert kinds(releases.plan()) == []


def test_a_log_with_another_cid_blocks_the_version(releases: Releases) -> None:
    releases.apply()
    (leaf,) = chain(releases, "m@1.0.0")
    file = releases.root / "releases/log" / leaf.path
    file.write_bytes(file.read_bytes().replace(leaf.cid.encode(), b"b" + b"a" * (len(leaf.cid) - 1)))
    (change,) = releases.plan().changes
    assert change.kind == "blocked"
    assert "was logged as baaa" in change.reason


@pytest.mark.parametrize(
    ("data", "expected"),
    [(b"", "has the leaf of|not a leaf"), (b"{}\n", "is not a leaf"), (b"x" * 70000, "not a regular file")],
)
def test_a_damaged_leaf_blocks_its_version_only(releases: Releases, data: bytes, expected: str) -> None:
    releases.apply()
    (leaf,) = chain(releases, "m@1.0.0")
    (releases.root / "releases/log" / leaf.path).write_bytes(data)
    (change,) = releases.plan().changes
    assert (change.kind, change.ref) == ("blocked", "m@1.0.0")
    assert re.search(expected, change.reason)


def test_no_link_leads_the_log_out_of_the_repository(releases: Releases, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (releases.root / "releases/log").symlink_to(outside)
    report = releases.apply()
    assert {outcome.state for outcome in report.outcomes if outcome.change.target is None} == {"failed"}
    assert list(outside.iterdir()) == []


def test_write_log_files_refuses_a_link_in_between(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "leaves").symlink_to(tmp_path)
    with pytest.raises(InvalidIndexError, match="symbolic link"):
        write_log_files(tmp_path / "log", {"leaves/m@1.0.0.1.json": b""})


# -- branches ------------------------------------------------------------------------------------------------


def test_a_proposal_on_a_branch_has_the_leaves_and_its_message_names_them(releases: Releases) -> None:
    assert not releases.apply(**BRANCH).failed
    changed = git(releases.root, "diff", "--name-only", "HEAD", PROPOSAL_BRANCH).split()
    assert "releases/log/leaves/m@1.0.0.1.json" in changed
    assert "releases/log/.gitattributes" in changed
    assert "- log release m@1.0.0" in git(releases.root, "log", "-1", "--format=%B", PROPOSAL_BRANCH)
    assert kinds(releases.plan(**BRANCH)) == []


def test_a_yank_is_proposed_on_a_branch_of_its_own_right(releases: Releases) -> None:
    releases.apply(**BRANCH)
    git(releases.root, "merge", "--quiet", PROPOSAL_BRANCH)
    releases.take_over()
    releases.change("m@1.0.0", yanked="broken")
    releases.write()
    commit(releases.root)
    assert not releases.apply(**BRANCH).failed
    assert git(releases.root, "diff", "--name-only", "HEAD", PROPOSAL_BRANCH).split() == [
        "releases/log/leaves/m@1.0.0.2.json"
    ]
    assert git(releases.root, "log", "-1", "--format=%s", PROPOSAL_BRANCH) == "Extend the audit log"
    assert kinds(releases.plan(**BRANCH)) == []


def test_runs_that_see_different_versions_share_one_proposal(releases: Releases) -> None:
    for only in ("m", "org/N"):
        assert not releases.apply(only=(only,), **BRANCH).failed
    names = git(releases.root, "ls-tree", "-r", "--name-only", PROPOSAL_BRANCH, "releases/log/leaves")
    assert len(names.splitlines()) == 2


def test_two_branches_that_log_different_versions_merge_without_a_conflict(releases: Releases) -> None:
    for branch, only in (("one", "m"), ("two", "org/N")):
        git(releases.root, "switch", "--quiet", "--create", branch, "main")
        assert not releases.apply(only=(only,), propose=ProposeMode.WRITE).failed
        for fields in releases.fields.values():
            for entry in fields.values():
                entry.pop("cid", None)
        commit(releases.root)
    git(releases.root, "switch", "--quiet", "main")
    git(releases.root, "merge", "--quiet", "one")
    git(releases.root, "merge", "--quiet", "--no-edit", "two")
    assert set(logged_versions(releases.root / "releases/log")) == {
        ("m", "1.0.0"),
        ("org/N", "2.0.0+cu118"),
    }
    with releases.running() as run:
        assert kinds(run.plan()) == []
    assert replay(chain(releases, "m@1.0.0")).cid == str(releases.cid("m@1.0.0"))
