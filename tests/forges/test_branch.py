"""A proposal as a commit on a local branch: what it creates, what it does not change, and its outcome."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from reconciler.errors import ReconcilerError, UsageError, UserError
from reconciler.forges import local_repository
from reconciler.forges.branch import commit_to_branch
from reconciler.forges.interface import PROPOSAL_BRANCH, BranchOutcome, SetFiles

INDEX = "releases/index.yaml"
FILES = {INDEX: b"schema: 1\ncid: resolved\n", "releases/records/a/1.0.0.json": b"{}\n"}


def git(root: Path, *command: str) -> str:
    done = subprocess.run(["git", *command], cwd=root, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture(autouse=True)
def _own_git_settings(tmp_path, monkeypatch):
    """Hide the git settings of the machine."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.delenv("EMAIL", raising=False)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))


@pytest.fixture
def root(tmp_path) -> Path:
    root = tmp_path / "repository"
    root.mkdir()
    git(root, "init", "-q", "-b", "main")
    git(root, "config", "user.name", "A Person")
    git(root, "config", "user.email", "person@example.org")
    (root / "releases").mkdir()
    (root / INDEX).write_bytes(b"schema: 1\n")
    (root / "other.txt").write_text("kept\n")
    git(root, "add", ".")
    git(root, "commit", "-q", "-m", "start")
    return root


def propose(root: Path, files=FILES, **options):
    return commit_to_branch(root, SetFiles(files, "Resolve CIDs"), PROPOSAL_BRANCH, **options)


def everything(root: Path) -> dict[str, bytes | str]:
    """Return what a proposal must not change: the work tree, the index, HEAD, and other branches."""
    files = {str(f): f.read_bytes() for f in sorted(root.rglob("*")) if f.is_file() and ".git" not in f.parts}
    refs = git(root, "for-each-ref", "--format=%(refname) %(objectname)", "refs")
    others = "\n".join(line for line in refs.splitlines() if PROPOSAL_BRANCH not in line)
    git_dir = Path(git(root, "rev-parse", "--absolute-git-dir"))
    return {
        **files,
        "index": (git_dir / "index").read_bytes(),
        "HEAD": (git_dir / "HEAD").read_text(),
        "refs": others,
    }


def person_commits(root: Path, path="notes.txt", text="by hand\n") -> str:
    """Add a commit to the proposal branch as a person, in a separate work tree."""
    place = root.parent / "by-hand"
    git(root, "worktree", "add", "-q", str(place), PROPOSAL_BRANCH)
    (place / path).write_text(text)
    git(place, "add", ".")
    git(place, "commit", "-q", "-m", "a person's work")
    git(root, "worktree", "remove", str(place))
    return git(root, "rev-parse", PROPOSAL_BRANCH)


def test_the_commit_sets_the_files_on_top_of_head_and_touches_nothing_else(root):
    (root / INDEX).write_bytes(b"schema: 1\n# not committed yet\n")
    (root / "staged.txt").write_text("staged\n")
    git(root, "add", "staged.txt")
    before = everything(root)

    result = propose(root)

    assert result.outcome is BranchOutcome.CREATED
    assert everything(root) == before
    assert git(root, "rev-parse", PROPOSAL_BRANCH) == result.sha
    assert git(root, "rev-parse", f"{result.sha}^") == git(root, "rev-parse", "main")
    names = git(root, "diff", "--name-only", "main", result.sha).splitlines()
    assert sorted(names) == sorted(FILES)
    shown = subprocess.run(
        ["git", "show", f"{result.sha}:{INDEX}"], cwd=root, capture_output=True, check=True
    )
    assert shown.stdout == FILES[INDEX]
    assert (
        git(root, "log", "-1", "--format=%an <%ae> %s", result.sha)
        == "A Person <person@example.org> Resolve CIDs"
    )
    assert git(root, "fsck", "--strict", "--no-dangling") == ""


def test_the_same_proposal_again_changes_nothing(root):
    first = propose(root)
    again = propose(root)
    assert again.outcome is BranchOutcome.UNCHANGED
    assert again.sha == first.sha


def test_another_proposal_replaces_the_commit_instead_of_stacking(root):
    propose(root)
    result = propose(root, {INDEX: b"schema: 1\ncid: another\n"})
    assert result.outcome is BranchOutcome.UPDATED
    assert git(root, "rev-list", "--count", f"main..{PROPOSAL_BRANCH}") == "1"


def test_a_moved_base_moves_the_proposal_onto_it(root):
    propose(root)
    git(root, "commit", "-q", "--allow-empty", "-m", "the base moves")
    result = propose(root)
    assert result.outcome is BranchOutcome.UPDATED
    assert git(root, "rev-parse", f"{result.sha}^") == git(root, "rev-parse", "main")


def test_a_merged_proposal_leaves_nothing_to_propose(root):
    propose(root)
    git(root, "merge", "-q", "--ff-only", PROPOSAL_BRANCH)
    result = propose(root)
    assert result.outcome is BranchOutcome.EMPTY
    assert result.sha == git(root, "rev-parse", "main")


def test_a_branch_is_not_made_for_files_that_the_base_holds(root):
    result = propose(root, {INDEX: b"schema: 1\n"})
    assert result.outcome is BranchOutcome.EMPTY
    assert git(root, "branch", "--list", PROPOSAL_BRANCH) == ""


def test_a_persons_commit_is_never_overwritten(root):
    propose(root)
    theirs = person_commits(root)
    result = propose(root, {INDEX: b"something else\n"})
    assert result.outcome is BranchOutcome.HUMAN_EDITED
    assert "A Person" in result.detail
    assert git(root, "rev-parse", PROPOSAL_BRANCH) == result.sha == theirs


def test_our_commit_amended_by_a_person_counts_as_theirs(root):
    propose(root)
    place = root.parent / "by-hand"
    git(root, "worktree", "add", "-q", str(place), PROPOSAL_BRANCH)
    (place / INDEX).write_text("fixed by hand\n")
    git(place, "commit", "-q", "-a", "--amend", "--no-edit")
    git(root, "worktree", "remove", str(place))
    theirs = git(root, "rev-parse", PROPOSAL_BRANCH)
    assert propose(root, {INDEX: b"else\n"}).outcome is BranchOutcome.HUMAN_EDITED
    assert git(root, "rev-parse", PROPOSAL_BRANCH) == theirs


def test_a_branch_of_the_same_name_that_a_person_made_is_left_alone(root):
    git(root, "branch", PROPOSAL_BRANCH)
    theirs = person_commits(root)
    assert propose(root).outcome is BranchOutcome.HUMAN_EDITED
    assert git(root, "rev-parse", PROPOSAL_BRANCH) == theirs


def test_a_branch_that_carries_nothing_of_its_own_is_used(root):
    git(root, "branch", PROPOSAL_BRANCH)
    assert propose(root).outcome is BranchOutcome.UPDATED


def test_a_branch_that_is_checked_out_is_refused_with_its_place(root):
    git(root, "switch", "-q", "-c", PROPOSAL_BRANCH)
    before = everything(root)
    with pytest.raises(UserError, match="checked out in") as caught:
        propose(root)
    assert "git switch" in (caught.value.hint or "")
    assert everything(root) == before


def test_a_detached_head_is_a_base_like_any_other(root):
    git(root, "switch", "-q", "--detach")
    result = propose(root)
    assert git(root, "rev-parse", f"{result.sha}^") == git(root, "rev-parse", "HEAD")


def test_a_bare_repository_takes_a_proposal(root, tmp_path):
    bare = tmp_path / "bare.git"
    git(root, "clone", "-q", "--bare", str(root), str(bare))
    git(bare, "config", "user.name", "A Person")
    git(bare, "config", "user.email", "person@example.org")
    result = propose(bare)
    assert result.outcome is BranchOutcome.CREATED
    assert git(bare, "show", f"{PROPOSAL_BRANCH}:{INDEX}") == FILES[INDEX].decode().strip()


def test_a_linked_work_tree_takes_a_proposal(root, tmp_path):
    place = tmp_path / "linked"
    git(root, "worktree", "add", "-q", str(place), "-b", "topic")
    result = propose(place)
    assert git(root, "rev-parse", PROPOSAL_BRANCH) == result.sha


def test_paths_are_taken_below_the_given_directory_of_a_larger_repository(root):
    result = propose(root / "releases", {"index.yaml": b"x\n"})
    assert git(root, "diff", "--name-only", "main", result.sha) == INDEX


def test_a_repository_with_sha256_ids_takes_a_proposal(tmp_path):
    root = tmp_path / "sha256"
    root.mkdir()
    git(root, "init", "-q", "--object-format=sha256")
    git(root, "config", "user.name", "A Person")
    git(root, "config", "user.email", "person@example.org")
    git(root, "commit", "-q", "--allow-empty", "-m", "start")
    assert len(propose(root).sha) == 64
    assert propose(root).outcome is BranchOutcome.UNCHANGED


def test_no_repository_is_one_error_that_names_the_way_out(tmp_path):
    with pytest.raises(UserError, match="not in a git repository") as caught:
        propose(tmp_path)
    assert "--propose write" in (caught.value.hint or "")


def test_a_directory_that_is_not_there_is_the_same_error(tmp_path):
    with pytest.raises(UserError, match="not in a git repository"):
        propose(tmp_path / "missing")


def test_a_repository_without_a_commit_is_one_error(tmp_path):
    git(tmp_path, "init", "-q")
    with pytest.raises(UserError, match="no commit yet"):
        propose(tmp_path)


def test_an_unknown_base_is_one_error(root):
    with pytest.raises(UserError, match="'nowhere'"):
        propose(root, base="nowhere")


@pytest.mark.parametrize("setting", ["user.name", "user.email"])
def test_a_missing_identity_is_one_error_and_no_branch(root, setting):
    git(root, "config", "--unset", setting)
    with pytest.raises(UserError, match="git has no author name and email") as caught:
        propose(root)
    assert "git config user.name" in (caught.value.hint or "")
    assert git(root, "branch", "--list", PROPOSAL_BRANCH) == ""


def test_no_hook_runs(root, tmp_path):
    trace = tmp_path / "hook-ran"
    hooks = root / ".git" / "hooks"
    hooks.mkdir(exist_ok=True)
    for name in ("pre-commit", "commit-msg", "post-commit", "post-index-change", "reference-transaction"):
        hook = hooks / name
        hook.write_text(f"#!/bin/sh\necho {name} >> {trace}\nexit 1\n")
        hook.chmod(0o755)
    assert propose(root).outcome is BranchOutcome.CREATED
    assert not trace.exists()


def test_the_environment_of_an_outer_hook_changes_nothing(root, tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "elsewhere-index"))
    result = propose(root)
    monkeypatch.delenv("GIT_DIR")
    monkeypatch.delenv("GIT_INDEX_FILE")
    assert git(root, "rev-parse", PROPOSAL_BRANCH) == result.sha
    assert not (tmp_path / "elsewhere-index").exists()


def test_files_are_stored_as_git_add_would_store_them(root):
    (root / ".gitattributes").write_text("*.yaml text eol=crlf\n")
    git(root, "add", ".gitattributes")
    git(root, "commit", "-q", "-m", "line ends")
    result = propose(root, {INDEX: b"schema: 1\r\ncid: x\r\n"})
    shown = subprocess.run(
        ["git", "show", f"{result.sha}:{INDEX}"], cwd=root, capture_output=True, check=True
    )
    assert shown.stdout == b"schema: 1\ncid: x\n"


def test_an_executable_file_stays_executable(root):
    git(root, "update-index", "--chmod=+x", INDEX)
    git(root, "commit", "-q", "-m", "mode")
    result = propose(root)
    assert git(root, "ls-tree", result.sha, INDEX).startswith("100755")


def test_a_commit_is_signed_when_git_is_told_to_sign(root, tmp_path):
    signer = tmp_path / "signer"
    signer.write_text("#!/bin/sh\ncat >/dev/null\necho '[GNUPG:] SIG_CREATED ' >&2\necho 'a signature'\n")
    signer.chmod(0o755)
    git(root, "config", "commit.gpgSign", "true")
    git(root, "config", "user.signingKey", "key")
    git(root, "config", "gpg.program", str(signer))
    result = propose(root)
    assert "gpgsig a signature" in git(root, "cat-file", "commit", result.sha)
    assert propose(root).outcome is BranchOutcome.UNCHANGED


def test_a_signature_that_cannot_be_made_is_one_error_and_no_branch(root):
    git(root, "config", "commit.gpgSign", "true")
    git(root, "config", "gpg.program", "false")
    with pytest.raises(ReconcilerError, match="git commit-tree failed"):
        propose(root)
    assert git(root, "branch", "--list", PROPOSAL_BRANCH) == ""


def test_a_symbolic_link_in_the_way_is_refused(root, tmp_path):
    (root / "linked").symlink_to(tmp_path)
    git(root, "add", "linked")
    git(root, "commit", "-q", "-m", "link")
    with pytest.raises(UserError, match="symbolic link"):
        propose(root, {"linked/file": b""})
    with pytest.raises(UserError, match="symbolic link"):
        propose(root, {"linked": b""})


def test_a_file_in_the_place_of_a_directory_and_the_reverse_are_refused(root):
    with pytest.raises(UserError, match=r"'other\.txt' is a file"):
        propose(root, {"other.txt/inner": b""})
    with pytest.raises(UserError, match="is a directory"):
        propose(root, {"releases": b""})


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "../up",
        "a/../b",
        "a//b",
        "./a",
        "a/",
        "",
        ".git/config",
        "a/.GIT/x",
        ".git./x",
        "git~1/x",
        ".g\u200cit/x",
        ".git::$INDEX_ALLOCATION/x",
        "a\\b",
        "a\x00b",
        "a\nb",
        "\udc80",
    ],
)
def test_a_path_that_could_leave_the_repository_is_refused(root, path):
    with pytest.raises(UsageError, match="cannot be proposed"):
        propose(root, {path: b"x"})
    assert git(root, "branch", "--list", PROPOSAL_BRANCH) == ""


def test_a_path_that_is_both_file_and_directory_is_refused(root):
    with pytest.raises(UsageError, match="both"):
        propose(root, {"a": b"", "a/b": b""})


@pytest.mark.parametrize("branch", ["", "-d", "a..b", "a b", "refs//x", "x.lock", "@{-1}", "HEAD~"])
def test_a_name_that_is_no_branch_name_is_refused(root, branch):
    with pytest.raises(UsageError, match="invalid branch name"):
        commit_to_branch(root, SetFiles(FILES, "message"), branch)


def test_a_branch_that_blocks_the_name_is_one_error(root):
    git(root, "branch", "reconciler")
    with pytest.raises(ReconcilerError, match="git update-ref failed"):
        propose(root)


def test_names_of_every_kind_are_kept(root):
    files = {"a b/ü 'quoted' \"x\" $HOME.txt": b"1", "-option": b"2", ":(top)magic": b"3", "[a]*?": b"4"}
    result = propose(root, files)
    listed = git(root, "ls-tree", "-r", "-z", "--name-only", result.sha).split("\0")
    assert set(files) <= set(listed)


def test_a_branch_that_moves_between_reading_and_writing_is_read_again(root, monkeypatch):
    move = local_repository.LocalRepository.move_branch
    moves = []

    def interrupted(repository, branch, new, old, reason):
        if not moves:
            moves.append(person_commits_first(root))
        move(repository, branch, new, old, reason)

    def person_commits_first(root):
        git(root, "branch", PROPOSAL_BRANCH)
        return person_commits(root)

    monkeypatch.setattr(local_repository.LocalRepository, "move_branch", interrupted)
    assert propose(root).outcome is BranchOutcome.HUMAN_EDITED
    assert git(root, "rev-parse", PROPOSAL_BRANCH) == moves[0]


def test_a_branch_that_keeps_moving_ends_in_one_error(root, monkeypatch):
    move = local_repository.LocalRepository.move_branch

    def interrupted(repository, branch, new, old, reason):
        sha = repository.commit_tree(
            git(root, "rev-parse", "HEAD^{tree}"), git(root, "rev-parse", "HEAD"), "x"
        )
        git(
            root, "update-ref", f"refs/heads/{branch}", git(root, "rev-parse", "HEAD") if old is None else sha
        )
        if old is not None:
            git(root, "update-ref", "-d", f"refs/heads/{branch}")
        move(repository, branch, new, old, reason)

    monkeypatch.setattr(local_repository.LocalRepository, "move_branch", interrupted)
    with pytest.raises(ReconcilerError, match="changed during every attempt"):
        propose(root)
