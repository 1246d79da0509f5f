"""Runs over malicious repositories give one clear error and the documented exit code.

They write nothing outside the repository.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.command_line import CommandLine, Done
from tests.support.small_disk import small_disk

HOSTILE = Path(__file__).parent / "index"
INDEX, TARGETS = "releases/index.yaml", "releases/targets.yaml"
RECORD = "releases/records/llm/1.0.0.json"
SOURCE = "weights/llm/1.0.0"
NAMES = ("config.json", "model.safetensors")
ELSEWHERE = "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"


class Repository(CommandLine):
    """A repository with malicious commits; `outside` is a directory that runs must not change."""

    outside: Path

    def remove(self, name: str) -> Path:
        path = self.root / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def file(self, name: str) -> None:
        self.remove(name).write_text("in the way")

    def directory(self, name: str) -> None:
        self.remove(name).mkdir()

    def fifo(self, name: str) -> None:
        os.mkfifo(self.remove(name))

    def link(self, name: str, to: str | Path) -> None:
        self.remove(name).symlink_to(to)

    def link_out(self, name: str) -> None:
        self.link(name, self.outside)

    def socket(self, name: str) -> None:
        with socket.socket(socket.AF_UNIX) as one, pytest.MonkeyPatch.context() as patch:
            patch.chdir(self.remove(name).parent)  # socket paths are limited to 100 characters
            one.bind(Path(name).name)

    def edit(self, name: str, old: str, new: str) -> None:
        text = (self.root / name).read_text()
        assert old in text
        self.write(name, text.replace(old, new))

    def git(self, *arguments: str) -> None:
        subprocess.run(["git", *arguments], cwd=self.root, check=True, capture_output=True)


@pytest.fixture
def repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Repository:
    (tmp_path / "repository").mkdir()
    made = Repository(tmp_path / "repository", monkeypatch, capsys)
    made.releases()
    made.outside = tmp_path / "outside"
    made.outside.mkdir()
    (made.outside / "secret").write_text("hunter2secret")
    return made


def is_clear(done: Done) -> None:
    """Check that the text moves no cursor, starts no workflow command, and reveals nothing from outside."""
    for line in (done.out + done.err).splitlines():
        assert line.isprintable()
        assert not line.startswith("::")
        assert len(line) < 500
    assert "hunter2secret" not in done.out + done.err


def outside_is_as_it_was(repository: Repository) -> None:
    assert [path.name for path in repository.outside.rglob("*")] == ["secret"]
    assert (repository.outside / "secret").read_text() == "hunter2secret"


Arrange = Callable[[Repository], object]

# -- the source directory of one version: that version is blocked, its sibling is published ------------------

SOURCES: dict[str, tuple[Arrange, str]] = {
    "link out": (lambda r: r.link_out(SOURCE), "leads outside the source root through the link"),
    "link to a sibling": (lambda r: r.link(SOURCE, "1.1.0"), f"'{SOURCE}' is a symbolic link"),
    "link to itself": (lambda r: r.link(SOURCE, "1.0.0"), f"{SOURCE} is not on this machine"),
    "link in it": (lambda r: r.link(f"{SOURCE}/x", r.outside / "secret"), "'x' is a symbolic link"),
    "device": (lambda r: r.link(SOURCE, "/dev/zero"), "leads outside the source root"),
    "fifo": (lambda r: r.fifo(SOURCE), f"cannot open the directory '{SOURCE}'"),
    "fifo in it": (lambda r: r.fifo(f"{SOURCE}/x"), "'x' is a FIFO"),
    "socket in it": (lambda r: r.socket(f"{SOURCE}/s"), "'s' is a socket"),
    "file": (lambda r: r.file(SOURCE), f"cannot open the directory '{SOURCE}'"),
    "missing": (lambda r: r.remove(SOURCE), f"{SOURCE} is not on this machine"),
    "empty": (lambda r: r.directory(SOURCE), "no files to pack"),
    "only hidden files": (
        lambda r: (r.directory(SOURCE), r.write(f"{SOURCE}/.x", "1")),
        "no files to pack",
    ),
    "bytes for a name": (
        lambda r: (r.root / SOURCE / os.fsdecode(b"caf\xe9")).write_text("x"),
        "is not UTF-8",
    ),
    "escape in a name": (lambda r: r.write(f"{SOURCE}/a\x1b[31m", "1"), "contains a control character"),
    "workflow in a name": (lambda r: r.write(f"{SOURCE}/a\n::error::x", "1"), "control character"),
    "sums that lie": (
        lambda r: r.write(f"{SOURCE}/SHA256SUMS", "".join(f"{'0' * 64}  {n}\n" for n in NAMES)),
        "SHA256SUMS:1: wrong sum for 'config.json'",
    ),
    "sums that lead out": (
        lambda r: r.write(f"{SOURCE}/SHA256SUMS", f"{'0' * 64}  ../../../../outside/secret\n"),
        "SHA256SUMS:1: ",
    ),
    "manifest of another": (
        lambda r: r.write(f"{SOURCE}/manifest.json", '{"model": "other", "version": "1.0.0", "files": []}'),
        "manifest.json: has model 'other', expected 'llm'",
    ),
    "sums without an end": (lambda r: r.write(f"{SOURCE}/SHA256SUMS", "0" * 100_000), "malformed line"),
}


@pytest.mark.parametrize("case", SOURCES)
def test_a_hostile_source_blocks_only_its_own_version(repository: Repository, case: str) -> None:
    arrange, said = SOURCES[case]
    arrange(repository)
    done = repository()
    assert done.code == 5
    (line,) = (line for line in done.out.splitlines() if line.startswith("  ! "))
    assert line.startswith("  ! 1.0.0 ")
    assert "blocked: " in line
    assert said in line
    assert done.out.endswith("Result: 3 applied, 1 blocked; 1.2 KiB sent.\n")
    assert len(repository.cars()) == 1
    is_clear(done)
    outside_is_as_it_was(repository)
    report = repository("--json").document
    assert [item["state"] for item in report["items"]] == ["blocked"]


# -- other files that a run writes or reads: one error, nothing published ------------------------------------

FILES: dict[str, tuple[Arrange, int, str]] = {
    "state file": (lambda r: r.file(".reconcile"), 1, ".reconcile: blocks the directory"),
    "state fifo": (lambda r: r.fifo(".reconcile"), 1, ".reconcile: blocks the directory"),
    "state link out": (lambda r: r.link_out(".reconcile"), 2, ".reconcile: is a symbolic link"),
    "state link to itself": (lambda r: r.link(".reconcile", ".reconcile"), 2, "is a symbolic link"),
    "cache link out": (lambda r: r.link_out(".reconcile/cache"), 2, ".reconcile/cache: is a symbolic"),
    "lock directory": (lambda r: r.directory(".reconcile/run.lock"), 1, "run.lock: Is a directory"),
    "lock link out": (lambda r: r.link(".reconcile/run.lock", r.outside / "secret"), 1, "run.lock"),
    "index directory": (lambda r: r.directory(INDEX), 2, f"no index at '{INDEX}'"),
    "index fifo": (lambda r: r.fifo(INDEX), 2, f"no index at '{INDEX}'"),
    "index device": (lambda r: r.link(INDEX, "/dev/zero"), 2, f"no index at '{INDEX}'"),
    "index link to itself": (lambda r: r.link(INDEX, "index.yaml"), 2, f"no index at '{INDEX}'"),
    "index link out": (lambda r: r.link(INDEX, r.outside / "secret"), 2, f"{INDEX}:1: "),
    "targets directory": (lambda r: r.directory(TARGETS), 2, f"{TARGETS}: not a regular file"),
    "targets fifo": (lambda r: r.fifo(TARGETS), 2, f"{TARGETS}: not a regular file"),
    "targets device": (lambda r: r.link(TARGETS, "/dev/zero"), 2, f"{TARGETS}: not a regular file"),
    "targets bomb": (lambda r: r.write(TARGETS, "a: &a [x]\nb: *a\n"), 2, f"{TARGETS}:1: "),
    "record directory": (lambda r: r.directory(RECORD), 2, f"{RECORD}: not a regular file"),
    "record fifo": (lambda r: r.fifo(RECORD), 2, f"{RECORD}: not a regular file"),
    "record device": (lambda r: r.link(RECORD, "/dev/zero"), 2, f"{RECORD}: not a regular file"),
    "record link out": (lambda r: r.link(RECORD, r.outside / "secret"), 2, f"{RECORD}:1: not JSON"),
    "records file": (lambda r: r.file("releases/records"), 2, "cannot be read: not a directory"),
    "record without an end": (lambda r: r.write(RECORD, "[" * 100_000), 2, f"{RECORD}: not a record"),
    "git file": (lambda r: r.write(".git", "garbage"), 2, "git repository around"),
    "git elsewhere": (lambda r: r.write(".git", "gitdir: /nowhere"), 2, "git repository around"),
    "git directory": (lambda r: r.directory(".git"), 2, "git repository around"),
    "git head": (lambda r: (r.git("init", "-q"), r.write(".git/HEAD", "\0\0")), 2, "git repository around"),
}


@pytest.mark.parametrize("case", FILES)
def test_hostile_files_of_a_repository_give_one_error(repository: Repository, case: str) -> None:
    arrange, code, said = FILES[case]
    arrange(repository)
    done = repository()
    assert (done.code, done.out) == (code, "")
    assert done.err.startswith("error: ")
    assert said in done.err
    assert len(done.err.splitlines()) <= 2
    is_clear(done)
    assert not repository.cars()
    outside_is_as_it_was(repository)
    assert repository("--json").document["error"]["exit_code"] == code


def test_state_files_are_not_written_through_a_link(repository: Repository) -> None:
    """The files are run.json and the .gitignore in .reconcile."""
    for name in ("run.json", ".gitignore"):
        repository.link(f".reconcile/{name}", repository.outside / "secret")
    repository.link(".reconcile/.gitignore", repository.outside / "made")
    assert repository().code == 0
    outside_is_as_it_was(repository)


WRITTEN: dict[str, tuple[Arrange, str]] = {
    "records link out": (lambda r: r.link_out("releases/records"), "releases/records: is a symbolic link"),
    "records of a model link out": (
        lambda r: r.link_out("releases/records/llm"),
        "releases/records/llm: is a symbolic link",
    ),
    "index is a link": (
        lambda r: ((r.root / INDEX).rename(r.root / "real.yaml"), r.link(INDEX, "../real.yaml")),
        f"{INDEX}: is a symbolic link, and links are not edited",
    ),
}


@pytest.mark.parametrize("case", WRITTEN)
def test_a_failing_write_back_fails_after_publishing(repository: Repository, case: str) -> None:
    arrange, said = WRITTEN[case]
    arrange(repository)
    index = (repository.root / INDEX).read_bytes()
    done = repository()
    assert done.code == 5
    assert said in done.out
    assert done.out.count(said) == 1
    assert done.out.endswith("Result: 2 applied, 4 failed; 2.4 KiB sent.\n")
    is_clear(done)
    assert (repository.root / INDEX).read_bytes() == index
    outside_is_as_it_was(repository)
    assert repository("--json").code == 5


STORES: dict[str, tuple[Arrange, str]] = {
    "file": (lambda r: r.file(".reconcile/store"), "cannot read the store at '.reconcile/store'"),
    "fifo": (lambda r: r.fifo(".reconcile/store"), "cannot read the store at '.reconcile/store'"),
    "link to itself": (lambda r: r.link(".reconcile/store", "store"), "cannot read the store at"),
    "link to nothing": (lambda r: r.link(".reconcile/store", "/nowhere/at/all"), "cannot write to the store"),
    "cars file": (
        lambda r: r.file(".reconcile/store/cars"),
        "cannot read the store at '.reconcile/store/cars'",
    ),
    "labels file": (lambda r: r.file(".reconcile/store/labels"), "cannot write to the store at"),
    "staging file": (lambda r: r.file(".reconcile/store/tmp"), "cannot write to the store at"),
}


@pytest.mark.parametrize("case", STORES)
def test_a_directory_that_is_not_a_store_fails_every_version(repository: Repository, case: str) -> None:
    arrange, said = STORES[case]
    arrange(repository)
    index = (repository.root / INDEX).read_bytes()
    done = repository()
    assert done.code == 5
    assert said in done.out
    is_clear(done)
    states = {item["state"] for item in repository("--json").document["items"]}
    assert states in ({"unknown"}, {"failed", "skipped"})
    assert (repository.root / INDEX).read_bytes() == index
    outside_is_as_it_was(repository)


# -- an index with names that are special elsewhere: one case of each kind in tests/hostile/index ------------

SORTS = sorted({path.name.partition("-")[0]: path.name for path in sorted(HOSTILE.glob("*.yaml"))}.values())


@pytest.mark.parametrize("file", SORTS)
@pytest.mark.parametrize("command", [(), ("plan", "--json"), ("check",)], ids=" ".join)
def test_a_hostile_index_exits_with_2_and_creates_nothing(
    repository: Repository, file: str, command: tuple[str, ...]
) -> None:
    (repository.root / INDEX).write_bytes((HOSTILE / file).read_bytes())
    before = repository.files()
    done = repository(*command)
    assert done.code == 2
    assert done.err.startswith(f"error: {INDEX}:")
    assert len(done.err.splitlines()) <= 2
    is_clear(done)
    if "--json" in command:
        assert done.document["error"]["where"].startswith(f"{INDEX}:")
    assert repository.files() == before
    assert not repository.cars()


# -- a saved plan that was edited by hand --------------------------------------------------------------------

Plan = dict[str, Any]


def unpin_of_another(plan: Plan) -> None:
    plan["items"].append(
        {"change": "unpin", "model": "other", "version": "1.0.0", "target": "store", "cid": ELSEWHERE}
    )


EDITED: dict[str, tuple[Callable[[Plan], object], int, str]] = {
    "a removal more": (
        unpin_of_another,
        4,
        "the changes differ from those of the saved plan: other@1.0.0 on store",
    ),
    "a change less": (lambda p: p["items"].pop(), 4, "the changes differ from those of the saved plan: llm@"),
    "another target": (
        lambda p: p["items"][0].update(target="../../etc"),
        4,
        "llm@1.1.0 on ../../etc, llm@1.1.0 on store",
    ),
    "another digest": (lambda p: p.update(digest="0" * 64), 4, "or the file was edited"),
    "another index": (lambda p: p.update(index={}, digest=""), 4, "the index changed since"),
    "no items": (lambda p: p.pop("items"), 4, "the saved plan was edited: 'items' is not a list"),
    "no options": (lambda p: p.pop("options"), 2, "saved by an earlier version, without its options"),
    "other options": (lambda p: p["options"].update(prune=True), 4, "or the file was edited"),
    "unknown options": (
        lambda p: p["options"].update(drift="rm -rf"),
        4,
        "'options.drift' is not one of repair",
    ),
    "items are a text": (lambda p: p.update(items="x"), 4, "'items' is not a list"),
    "items are numbers": (lambda p: p.update(items=[1, None, []]), 4, "'items[0]' is not an object"),
    "hostile text": (
        lambda p: p["items"][0].update(model="\x1b[31m\n::error::x"),
        4,
        "'\\x1b[31m\\n::error::x@1.1.0 on store'",
    ),
    "a report": (lambda p: p.update(kind="report"), 2, "plan.json: not a saved plan"),
    "another schema": (lambda p: p.update(schema=99), 2, "plan.json: the plan has schema 99"),
}


@pytest.mark.parametrize("case", EDITED)
def test_a_plan_edited_by_hand_is_refused(repository: Repository, case: str) -> None:
    edit, code, said = EDITED[case]
    assert repository("plan", "-o", "plan.json").code == 0
    plan = json.loads((repository.root / "plan.json").read_text())
    edit(plan)
    repository.write("plan.json", json.dumps(plan))
    before = repository.files()
    done = repository("apply", "plan.json")
    assert (done.code, done.out) == (code, "")
    assert said in done.err
    assert len(done.err.splitlines()) <= 2
    is_clear(done)
    assert repository.files() == before
    assert not repository.cars()


NO_PLANS: dict[str, tuple[Arrange, str]] = {
    "fifo": (lambda r: r.fifo("plan.json"), "not a regular file"),
    "device": (lambda r: r.link("plan.json", "/dev/zero"), "not a regular file"),
    "directory": (lambda r: r.directory("plan.json"), "not a regular file"),
    "nothing": (lambda r: r.remove("plan.json"), "cannot be read"),
    "too deep": (lambda r: r.write("plan.json", "[" * 100_000), "not a saved plan"),
    "a number without an end": (
        lambda r: r.write("plan.json", '{"kind": "plan", "schema": ' + "9" * 5000 + "}"),
        "not a saved plan",
    ),
    "no number": (
        lambda r: r.write("plan.json", '{"kind": "plan", "schema": NaN}'),
        "the plan has schema nan",
    ),
    "byte order mark": (lambda r: r.write("plan.json", "\ufeff{}"), "not a saved plan"),
    "no text": (lambda r: r.write("plan.json", b"\xff\xfe"), "not a saved plan"),
    "too large": (lambda r: os.truncate(r.write("plan.json", "{}"), 65 << 20), "too large for a saved plan"),
}


@pytest.mark.parametrize("case", NO_PLANS)
def test_a_file_that_is_not_a_plan_is_not_applied(repository: Repository, case: str) -> None:
    arrange, said = NO_PLANS[case]
    arrange(repository)
    done = repository("apply", "plan.json")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("error: plan.json: ")
    assert said in done.err
    is_clear(done)
    assert not repository.cars()


# -- a disk that cannot be written ---------------------------------------------------------------------------


def test_on_a_read_only_disk_a_run_gives_one_error_and_status_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with small_disk(tmp_path / "disk", 4) as disk:
        repository = CommandLine(disk.path, monkeypatch, capsys)
        repository.releases()
        repository.write(".reconcile/.gitignore", "*\n")
        before = repository.files()
        disk.lock()
        for command, code in (((), 1), (("plan",), 0), (("check",), 0), (("status",), 0)):
            done = repository(*command)
            is_clear(done)
            assert done.code == code, (command, done.err)
            if code == 1:
                assert done.err.startswith("error: ")
                assert "cannot be written (read-only file system)" in done.err
                assert len(done.err.splitlines()) <= 2
        assert repository.files() == before
        monkeypatch.chdir(tmp_path)
