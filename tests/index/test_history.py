"""The index must still contain what its git history published."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from reconciler.errors import UsageError, UserError
from reconciler.git.repository import head_without_git
from reconciler.index.history import FrozenCheck, check_frozen
from reconciler.index.load import load_index
from tests.index.samples import some_cid
from tests.support.pairs import pairs

FILE = "releases/index.yaml"


def git(repo: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=repo, check=True, capture_output=True, text=True)
    return done.stdout.strip()


class Repository:
    """A repository with one index, committed step by step."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir()
        git(root, "init", "-q", "-b", "main")
        git(root, "config", "user.name", "Test")
        git(root, "config", "user.email", "test@example.com")
        (root / "releases").mkdir()

    def write(self, **versions: str) -> None:
        """Write the index; v1_0_0="cid: …, protect: true" becomes a version in flow style."""
        entries = "".join(
            f'      "{name[1:].replace("_", ".")}": {{path: w/{name}, {fields}}}\n'
            for name, fields in versions.items()
        )
        versions_block = "\n" + entries if entries else " {}\n"
        text = f"schema: 1\nid: acme\nmodels:\n  m:\n    targets: [a, b]\n    versions:{versions_block}"
        (self.root / FILE).write_text(text.replace(", }", "}"))

    def commit(self, **versions: str) -> str:
        self.write(**versions)
        git(self.root, "add", FILE)
        git(self.root, "commit", "-q", "-m", "index")
        return git(self.root, "rev-parse", "HEAD")

    def check(self, base: str | None = None, cache: Path | None = None) -> FrozenCheck:
        return check_frozen(load_index(self.root / FILE), base=base, cache=cache)


@pytest.fixture
def repo(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "repo")


A, B = f"cid: {some_cid('a')}", f"cid: {some_cid('b')}"


def messages(check: FrozenCheck) -> list[str]:
    return [violation.message for violation in check.violations]


def test_an_unchanged_and_a_growing_index_pass(repo: Repository) -> None:
    repo.commit(v1_0_0="")
    repo.commit(v1_0_0=A)
    repo.write(v1_0_0=A, v1_1_0=B)
    check = repo.check()
    assert (check.violations, check.complete) == ((), True)
    assert check.checked == "2 revisions in the history of HEAD"


def test_a_changed_cid_is_refused_with_its_commit_and_line(repo: Repository) -> None:
    commit = repo.commit(v1_0_0=A)
    repo.write(v1_0_0=B)
    (violation,) = repo.check().violations
    assert (
        violation.message == f"m@1.0.0 was {some_cid('a')} in commit {commit[:12]} and is {some_cid('b')} now"
    )
    assert str(violation.where).endswith("index.yaml:7")
    assert "new version" in violation.hint


def test_a_change_that_was_committed_is_still_refused(repo: Repository) -> None:
    first = repo.commit(v1_0_0=A)
    repo.commit(v1_0_0="")
    second = repo.commit(v1_0_0=B)
    assert len(repo.check().violations) == 1
    assert len(repo.check(base=first).violations) == 1
    assert repo.check(base=second).violations == (), "a base is compared with alone"


def test_a_change_inside_a_merge_is_refused(repo: Repository) -> None:
    repo.commit(v1_0_0=A)
    git(repo.root, "checkout", "-q", "-b", "side")
    repo.commit(v1_0_0=A, v1_1_0=B)
    git(repo.root, "checkout", "-q", "main")
    repo.commit(v1_0_0=A, v0_9_0="")
    git(repo.root, "merge", "-q", "--no-commit", "-s", "ours", "side")
    repo.commit(v1_0_0=A, v1_1_0=f"cid: {some_cid('evil')}")
    assert [violation.ref for violation in repo.check().violations] == ["m@1.1.0"]


def test_a_removed_cid_is_refused(repo: Repository) -> None:
    repo.commit(v1_0_0=A)
    repo.write(v1_0_0="")
    (message,) = messages(repo.check())
    assert message.startswith(f"m@1.0.0 had the CID {some_cid('a')} in commit ")


def test_removing_an_unprotected_version_is_allowed(repo: Repository) -> None:
    repo.commit(v1_0_0=A, v1_1_0=B)
    repo.write(v1_0_0=A)
    assert repo.check().violations == ()


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        ({}, "and was removed"),
        ({"v1_0_0": A + ", retired: true"}, "and was retired"),
        ({"v1_0_0": A + ", targets: [a]"}, "and was removed from b"),
        ({"v1_0_0": B + ", protect: true"}, "and is"),
    ],
)
def test_a_protected_version_stays(repo: Repository, now: dict[str, str], expected: str) -> None:
    repo.commit(v1_0_0=A + ", protect: true")
    repo.write(**now)
    (message,) = messages(repo.check())
    assert expected in message


def test_protection_is_removed_in_a_commit_of_its_own(repo: Repository) -> None:
    repo.commit(v1_0_0=A + ", protect: true")
    repo.write(v1_0_0=A)
    assert repo.check().violations == ()
    repo.commit(v1_0_0=A)
    repo.write()
    assert repo.check().violations == ()


def test_unreadable_old_contents_are_skipped_and_counted(repo: Repository) -> None:
    (repo.root / FILE).write_text("cid: &a [broken\n")
    git(repo.root, "add", FILE)
    git(repo.root, "commit", "-q", "-m", "broken")
    repo.commit(v1_0_0="cid: bafyTODO")
    repo.commit(v1_0_0=A)
    check = repo.check()
    assert check.violations == ()
    assert "1 of them could not be read" in check.checked
    assert not check.complete


def test_the_check_reports_a_missing_repository_commit_or_tracked_index(
    tmp_path: Path, repo: Repository
) -> None:
    repo.write(v1_0_0=A)
    assert repo.check().checked == "nothing: there is no commit yet"
    git(repo.root, "commit", "-q", "--allow-empty", "-m", "empty")
    assert repo.check().checked == f"nothing: no commit has {FILE}"
    (tmp_path / "plain").mkdir()
    (repo.root / FILE).rename(tmp_path / "plain" / "index.yaml")
    index = load_index(tmp_path / "plain" / "index.yaml")
    assert check_frozen(index).checked == "nothing: there is no git repository"
    with pytest.raises(UsageError, match="no git repository"):
        check_frozen(index, base="main")


def test_a_shallow_clone_is_checked_incompletely(tmp_path: Path, repo: Repository) -> None:
    repo.commit(v1_0_0=A)
    repo.commit(v1_0_0=A, v1_1_0=B)
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "-q", "--depth", "1", f"file://{repo.root}", str(clone))
    check = check_frozen(load_index(clone / FILE))
    assert not check.complete
    assert "shallow" in check.checked
    assert "fetch-depth: 0" in check.checked


@pytest.mark.parametrize("base", ["nope", "-x", "--output=x", "HEAD~9", "", "main:releases", "a..b"])
def test_a_base_that_is_not_a_commit_is_a_usage_error(repo: Repository, base: str) -> None:
    repo.commit(v1_0_0=A)
    with pytest.raises(UsageError, match="is not a commit"):
        repo.check(base=base)


def test_a_base_without_the_index_has_nothing_to_compare(repo: Repository) -> None:
    git(repo.root, "commit", "-q", "--allow-empty", "-m", "empty")
    repo.commit(v1_0_0=A)
    assert "has no releases/index.yaml" in repo.check(base="HEAD~1").checked


def test_a_repeated_check_does_not_start_git(repo: Repository, tmp_path: Path) -> None:
    repo.commit(v1_0_0=A)
    cache = tmp_path / "cache"
    first = repo.check(cache=cache)
    assert first.checked == "1 revisions in the history of HEAD"
    code = (
        "import sys\nfrom pathlib import Path\n"
        "from reconciler.index.history import check_frozen\nfrom reconciler.index.load import load_index\n"
        f"root = Path({str(repo.root)!r})\n"
        f"found = check_frozen(load_index(root / {FILE!r}), cache=Path({str(cache)!r}))\n"
        "print('git' in sys.modules, found.complete, len(found.violations))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PATH": ""},
    )
    assert run.stdout.split() == ["False", "True", "0"]
    repo.write(v1_0_0=B)
    assert len(repo.check(cache=cache).violations) == 1, "a changed index is looked at again"
    assert len(repo.check(cache=cache).violations) == 1, "a violation is never remembered as fine"


def test_the_cache_grows_with_history_and_its_loss_changes_nothing(repo: Repository, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    for step in range(3):
        repo.commit(**{f"v1_{n}_0": f"cid: {some_cid(str(n))}" for n in range(step + 1)})
        assert repo.check(cache=cache).violations == ()
    repo.write(v1_0_0=f"cid: {some_cid('evil')}", v1_2_0=f"cid: {some_cid('2')}")
    with_cache = repo.check(cache=cache)
    for file in cache.iterdir():
        file.unlink()
    assert repo.check(cache=cache) == with_cache == repo.check()
    assert len(with_cache.violations) == 1
    (cache / "published.json").write_text("[damaged")
    assert repo.check(cache=cache) == with_cache


def test_the_cache_follows_a_change_of_branch(repo: Repository, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    repo.commit(v1_0_0=A)
    git(repo.root, "checkout", "-q", "-b", "side")
    repo.commit(v1_0_0=A, v1_1_0=A)
    repo.check(cache=cache)
    git(repo.root, "checkout", "-q", "main")
    repo.write(v1_0_0=A, v1_1_0=B)
    assert repo.check(cache=cache).violations == (), "versions published only on another branch do not count"


def test_a_committed_cache_is_ignored(repo: Repository) -> None:
    """Otherwise a pull request could add a cache without the published versions."""
    cache = repo.root / ".reconcile" / "cache"
    repo.commit(v1_0_0=A)
    repo.check(cache=cache)
    forged = (cache / "published.json").read_text().replace(str(some_cid("a")), str(some_cid("b")))
    (cache / "published.json").write_text(forged)
    git(repo.root, "add", "-f", ".reconcile")
    git(repo.root, "commit", "-q", "-m", "forged")
    repo.write(v1_0_0=B)
    assert len(repo.check(cache=cache).violations) == 1


def test_programs_named_in_the_configuration_do_not_run(repo: Repository, tmp_path: Path) -> None:
    repo.commit(v1_0_0=A)
    mark = tmp_path / "ran"
    program = tmp_path / "program.sh"
    program.write_text(f"#!/bin/sh\ntouch {mark}\ncat\n")
    program.chmod(0o755)
    for key in ("core.fsmonitor", "core.pager", "pager.rev-list", "gpg.program", "diff.external",
    "core.editor",
                "core.sshCommand", "diff.x.textconv", "filter.x.smudge", "filter.x.clean",
                "core.hooksPath"):  # fmt: skip
        git(repo.root, "config", key, str(program))
    git(repo.root, "config", "log.showSignature", "true")
    (repo.root / ".gitattributes").write_text("* diff=x filter=x\n")
    repo.write(v1_0_0=B)
    assert len(repo.check(cache=tmp_path / "cache").violations) == 1
    assert not mark.exists()


def test_a_repository_of_another_user_is_one_clear_error(
    repo: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo.commit(v1_0_0=A)
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    with pytest.raises(UserError, match="does not trust") as caught:
        repo.check()
    assert "safe.directory" in (caught.value.hint or "")


def test_linked_work_trees_and_packed_refs_are_read(repo: Repository, tmp_path: Path) -> None:
    commit = repo.commit(v1_0_0=A)
    assert head_without_git(repo.root / "releases") == commit
    git(repo.root, "pack-refs", "--all")
    assert head_without_git(repo.root) == commit
    tree = tmp_path / "tree"
    git(repo.root, "worktree", "add", "-q", "-b", "other", str(tree))
    assert head_without_git(tree) == commit
    assert check_frozen(load_index(tree / FILE)).checked == "1 revisions in the history of HEAD"
    git(tree, "checkout", "-q", "--detach")
    assert head_without_git(tree) == commit
    assert head_without_git(tmp_path) is None


@pytest.mark.parametrize(
    ("name", "place"),
    pairs(
        [
            "GIT_WORK_TREE",
            "GIT_DIR",
            "GIT_INDEX_FILE",
            "GIT_COMMON_DIR",
            "GIT_OBJECT_DIRECTORY",
            "GIT_CEILING_DIRECTORIES",
            "GIT_NAMESPACE",
            "GIT_SHALLOW_FILE",
            "GIT_GRAFT_FILE",
            "GIT_REPLACE_REF_BASE",
            "GIT_PREFIX",
        ],
        ["above", "beside", "nowhere", ""],
        every=4,
    ),
)
def test_a_variable_of_git_never_switches_the_check_off(
    repo: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, place: str
) -> None:
    """A deploy hook, an alias or `git rebase --exec` sets some of them, for another repository."""
    repo.commit(v1_0_0=A)
    repo.write(v1_0_0=B)
    other = Repository(tmp_path / "other")
    other.commit(v1_0_0=B)
    places = {"above": tmp_path, "beside": other.root / ".git", "nowhere": tmp_path / "missing", "": ""}
    monkeypatch.setenv(name, str(places[place]))
    assert len(repo.check().violations) == 1


def test_a_work_tree_above_is_refused_rather_than_the_check_left_out(repo: Repository) -> None:
    """The commits do not have the paths below it."""
    repo.commit(v1_0_0=A)
    repo.write(v1_0_0=B)
    git(repo.root, "config", "core.worktree", str(repo.root.parent))
    with pytest.raises(UserError, match="elsewhere"):
        repo.check()


@pytest.mark.parametrize("setting", ["core.worktree=/", "core.bare=true"])
def test_a_setting_from_outside_never_switches_the_check_off(
    repo: Repository, monkeypatch: pytest.MonkeyPatch, setting: str
) -> None:
    """`git -c NAME=VALUE` passes a setting on to the commands of an alias."""
    repo.commit(v1_0_0=A)
    repo.write(v1_0_0=B)
    monkeypatch.setenv("GIT_CONFIG_PARAMETERS", f"'{setting}'")
    try:
        assert len(repo.check().violations) == 1
    except UserError as error:
        assert "elsewhere" in error.message


def test_a_repository_that_only_git_dir_names_is_an_error_and_not_no_history(
    repo: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a bare repository of dotfiles, or a hook that deploys into a plain directory."""
    repo.commit(v1_0_0=A)
    repo.write(v1_0_0=B)
    (repo.root / ".git").rename(tmp_path / "elsewhere.git")
    assert repo.check().checked.startswith("nothing")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere.git"))
    with pytest.raises(UserError, match="GIT_DIR names a git repository") as caught:
        repo.check()
    assert "unset GIT_DIR" in (caught.value.hint or "")
