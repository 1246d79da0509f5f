"""Index and records move together: whatever people edit, restore and run in between, a run converges or names
the one file to fix."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from reconciler.content.cid import Cid, parse
from reconciler.errors import InvalidIndexError
from reconciler.index.edits import set_cids
from reconciler.index.records import load_record, record_path, records_directory
from reconciler.loop import propose
from reconciler.loop.changes import Report
from tests.support.releases import Releases, kinds, with_memory

RECORD = "releases/records/m/1.0.0.json"
INDEX = "releases/index.yaml"


def git(root: Path, *arguments: str) -> None:
    subprocess.run(["git", "-C", root, *arguments], check=True, capture_output=True)


def commit(root: Path, *paths: str) -> None:
    git(root, "add", "--all", *paths)
    git(root, "commit", "--quiet", "--allow-empty", "--message", "change")


@pytest.fixture
def releases(tmp_path: Path) -> Releases:
    return repository(tmp_path)


def repository(root: Path) -> Releases:
    releases = with_memory(root, "a")
    releases.add("m@1.0.0")
    releases.write()
    (root / ".gitignore").write_text(".reconcile/\nweights/\n")
    git(root, "init", "--quiet")
    commit(root, ".")
    return releases


def run(releases: Releases) -> Report:
    """Run on the files as they are."""
    with releases.running() as running:
        return running.apply(running.plan())


def weights(releases: Releases, data: bytes) -> None:
    (releases.root / "weights/m/1.0.0/weights.bin").write_bytes(data)


def recorded(releases: Releases) -> Cid | None:
    found = load_record(records_directory(releases.index_file), "m", "1.0.0")
    return found.cid if found else None


# -- one after the other -------------------------------------------------------------------------------------


def test_an_index_edited_during_the_run_leaves_no_record_behind(releases: Releases) -> None:
    edited = releases.index_file.read_text().replace("weights/m/1.0.0", "weights/other")
    releases.memory["a"].faults["publish"] = lambda: releases.index_file.write_text(edited)
    report = run(releases)
    assert report.failed
    assert any("changed meanwhile" in outcome.detail for outcome in report.outcomes)
    assert not (releases.root / "releases/records").exists()
    assert releases.index_file.read_text() == edited


def test_an_index_edited_at_the_last_moment_undoes_the_records(
    releases: Releases, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_edit = propose.write_edit

    def edited_before(path: Path, old: str, new: str) -> None:
        path.write_text(old + "\n# by a person\n")
        write_edit(path, old, new)

    monkeypatch.setattr(propose, "write_edit", edited_before)
    assert run(releases).failed
    assert not (releases.root / "releases/records").exists()


def test_an_undone_record_gets_its_earlier_bytes_back(
    releases: Releases, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(releases)
    before = (releases.root / RECORD).read_bytes()
    git(releases.root, "checkout", "--", INDEX)
    weights(releases, b"new bytes")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(propose, "write_edit", full)
    assert run(releases).failed
    assert (releases.root / RECORD).read_bytes() == before


def test_a_record_left_behind_by_a_restored_index_is_replaced(releases: Releases) -> None:
    run(releases)
    old = releases.cid("m@1.0.0")
    git(releases.root, "checkout", "--", INDEX)
    weights(releases, b"new bytes")
    with releases.running() as running:
        plan = running.plan()
        reasons = [change.reason for change in plan.changes if change.kind == "write-record"]
        assert reasons == [f"replaces the record of {old}, which was never released"]
        assert not running.apply(plan).failed
    assert releases.cid("m@1.0.0") == recorded(releases) != old
    with releases.running() as running:
        assert kinds(running.plan()) == []


def test_a_committed_record_is_not_replaced_and_named(releases: Releases) -> None:
    run(releases)
    old = releases.cid("m@1.0.0")
    git(releases.root, "checkout", "--", INDEX)
    commit(releases.root, "releases/records")
    weights(releases, b"new bytes")
    (outcome,) = run(releases).outcomes
    assert outcome.state == "blocked"
    assert f"{RECORD}: records {old}" in outcome.detail
    assert f"set cid: {old}" in outcome.hint
    assert releases.memory["a"].held.keys() == {old}
    (releases.root / RECORD).unlink()
    assert not run(releases).failed
    assert releases.cid("m@1.0.0") == recorded(releases)


def forge_record(releases: Releases) -> None:
    file = releases.root / RECORD
    text = file.read_text()
    other = str(releases.cid("m@1.0.0"))[:-5] + "aaaaa"
    file.write_text(text.replace(str(releases.cid("m@1.0.0")), other))


def test_of_two_files_that_contradict_each_other_the_uncommitted_one_is_named(releases: Releases) -> None:
    run(releases)
    forge_record(releases)
    with pytest.raises(InvalidIndexError) as caught:
        run(releases)
    assert str(caught.value.where).endswith(RECORD)
    assert "delete this file" in (caught.value.hint or "")
    (releases.root / RECORD).unlink()
    run(releases)
    git(releases.root, "checkout", "--", INDEX)
    run(releases)
    commit(releases.root, ".")
    forge_record(releases)
    with pytest.raises(InvalidIndexError) as caught:
        run(releases)
    assert str(caught.value.where).endswith(RECORD)
    assert "git checkout HEAD" in (caught.value.hint or "")
    git(releases.root, "checkout", "--", RECORD)
    text = releases.index_file.read_text()
    cid = str(releases.cid("m@1.0.0"))
    releases.index_file.write_text(text.replace(cid, cid[:-5] + "aaaaa"))
    with pytest.raises(InvalidIndexError) as caught:
        run(releases)
    assert INDEX in str(caught.value.where)
    assert INDEX in (caught.value.hint or "")


def test_a_changed_record_with_the_same_size_and_times_is_seen(releases: Releases) -> None:
    run(releases)
    file = releases.root / RECORD
    run(releases)
    status = file.stat()
    data = file.read_bytes()
    at = data.index(b'"cid": "') + 30
    with file.open("r+b") as stream:  # in place: the same inode
        stream.seek(at)
        stream.write(b"a" if data[at : at + 1] != b"a" else b"b")
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(InvalidIndexError):
        run(releases)


def test_pieces_of_an_outdated_record_are_not_used(releases: Releases) -> None:
    run(releases)
    git(releases.root, "checkout", "--", INDEX)
    weights(releases, b"new bytes")
    with releases.running() as running:
        running.plan()
        assert running.workspace.sources.facts()["m@1.0.0"].root != recorded(releases)


# -- in any order --------------------------------------------------------------------------------------------


class Repository(RuleBasedStateMachine):
    """People and runs change one repository in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.root = Path(self.folder.name)
        self.releases = repository(self.root)
        self.bytes: dict[str, bytes] = {}
        self.data = b"m@1.0.0" * 10
        self.commits = 1

    def teardown(self) -> None:
        self.folder.cleanup()

    @rule(data=st.sampled_from([b"one", b"two"]))
    def change_the_weights(self, data: bytes) -> None:
        self.data = data
        weights(self.releases, data)

    @rule(paths=st.sampled_from([(INDEX,), ("releases/records",), (".",)]))
    def commit_some_files(self, paths: tuple[str, ...]) -> None:
        if (self.root / "releases/records").exists() or paths != ("releases/records",):
            commit(self.root, *paths)
            self.commits += 1

    @rule(path=st.sampled_from([INDEX, RECORD]))
    def restore_a_file(self, path: str) -> None:
        subprocess.run(
            ["git", "-C", self.root, "checkout", "HEAD", "--", path], capture_output=True, check=False
        )

    @precondition(lambda self: self.commits > 1)
    @rule()
    def go_back_to_the_files_of_the_commit_before(self) -> None:
        git(self.root, "restore", "--source", "HEAD^", "--worktree", "--", INDEX)

    @rule()
    def delete_the_record(self) -> None:
        record_path(self.root / "releases/records", "m", "1.0.0").unlink(missing_ok=True)

    @rule()
    def lose_the_published_copy(self) -> None:
        self.releases.memory["a"].held.clear()

    @rule()
    def edit_the_index_during_a_run(self) -> None:
        text = self.releases.index_file.read_text()
        self.releases.memory["a"].faults["publish"] = lambda: self.releases.index_file.write_text(text + "\n")
        self._try()
        self.releases.memory["a"].faults.clear()

    @rule()
    def run_once(self) -> None:
        self._try()

    @rule()
    def run_until_it_converges(self) -> None:
        for _ in range(5):
            problem = self._try()
            if problem is None:
                with self.releases.running() as running:
                    assert kinds(running.plan()) == []
                cid = self.releases.cid("m@1.0.0")
                assert recorded(self.releases) in (cid, None)
                assert cid in self.releases.memory["a"].held
                return
            self._fix(problem)
        raise AssertionError(f"the advice does not help: {problem}")

    def _try(self) -> str | None:
        """Run; return the error with its hint, or None."""
        try:
            with self.releases.running() as running:
                plan = running.plan()
                facts = running.workspace.sources.facts()
                self.bytes |= {str(fact.root): self.data for fact in facts.values()}
                if plan.refusals:
                    return f"refused: {plan.refusals[0].message} | {plan.refusals[0].override}"
                report = running.apply(plan)
        except InvalidIndexError as error:
            return f"{error} | {error.hint}"
        failed = [outcome for outcome in report.outcomes if outcome.state.is_failure]
        return f"{failed[0].detail} | {failed[0].hint}" if failed else None

    def _fix(self, problem: str) -> None:
        """Do what the error says, to the one file that it names."""
        if "no longer has the published CID" in problem:
            match = re.search(r"the index has (baf\w+)", problem)
            assert match is not None
            self.change_the_weights(self.bytes[match[1]])
        elif "undo the change of" in problem or "restore it: cid:" in problem or "restore it, and" in problem:
            match = re.search(r"restore it: cid: (\S+)|had the CID (\S+)|m@1\.0\.0 was (\S+)", problem)
            text = re.sub(r',\s*"?cid"?: "?baf\w+"?', "", self.releases.index_file.read_text())
            wanted = next(filter(None, match.groups())) if match else str(recorded(self.releases))
            self.releases.index_file.write_text(set_cids(text, {("m", "1.0.0"): parse(wanted)}))
        elif "git checkout HEAD" in problem:
            assert RECORD in problem.partition("|")[0]
            git(self.root, "checkout", "HEAD", "--", RECORD)
        elif "delete" in problem:
            assert RECORD in problem
            self.delete_the_record()
        else:
            assert "meanwhile" in problem, problem


Repository.TestCase.settings = settings(
    max_examples=8,
    stateful_step_count=12,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestRepository = Repository.TestCase
