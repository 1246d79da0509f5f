"""What enters a release: the loop refuses or warns before the first publication, and never afterwards."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.content.lint.finding import FindingCode
from reconciler.content.scan import scan
from reconciler.loop.changes import Blocked
from reconciler.loop.entrance import listing_findings
from reconciler.loop.lint import lint_reference
from reconciler.loop.plan_document import plan_document
from reconciler.progress import QUIET
from reconciler.render.markdown import plan_markdown
from reconciler.render.text import plan_text
from reconciler.targets.open import open_target
from tests.support.dags import write_car
from tests.support.releases import Releases, assert_document, with_memory
from tests.support.safetensors import safetensors

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"00" * 32 + b"\nsize 12345678\n"
WEIGHTS = safetensors(b"weights!")
SHARD = {"model-00001-of-00002.safetensors": WEIGHTS}


@pytest.fixture
def releases(tmp_path: Path) -> Releases:
    return with_memory(tmp_path, "a")


def git(root: Path, *arguments: str) -> None:
    subprocess.run(["git", "-C", root, *arguments], check=True, capture_output=True)


REFUSED = {
    "pointer-file": {"model.safetensors": POINTER},
    "credentials": {".netrc": b"machine x login y password z\n"},
    "version-control": {".git": b"gitdir: elsewhere\n"},
    "missing-file": SHARD,
    "partial-download": {"model.bin.part": b"x"},
    "truncated-file": {"model.safetensors": WEIGHTS[:-1]},
    "private-key": {"key.pem": b"-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG\n"},
}


@pytest.mark.parametrize("code", REFUSED)
def test_a_refused_version_is_blocked_with_its_reason_and_others_are_published(
    releases: Releases, code: str
) -> None:
    releases.add("bad@1.0.0", {**REFUSED[code], "LICENSE": b"MIT"}, hidden="include")
    releases.add("good@1.0.0")
    report = releases.apply()
    plan = report.plan
    (blocked,) = (change for change in plan.changes if isinstance(change, Blocked))
    (found,) = (each for each in plan.findings["bad@1.0.0"] if each.refuses)
    assert (blocked.ref, found.code) == ("bad@1.0.0", code)
    assert (blocked.reason, blocked.hint) == (found.message, found.advice)
    assert releases.index.models["bad"].versions["1.0.0"].cid is None
    assert releases.cid("good@1.0.0") in releases.memory["a"].held
    assert report.failed

    text = plan_text(plan)
    assert found.message in text
    assert f"hint: {found.hint}" in text
    assert found.hint.replace("`", "").split()[0] in plan_markdown(plan)
    document = plan_document(plan)
    assert_document("plan", document)
    listed = [each for each in document["findings"] if each["severity"] != "warning"]
    assert [(each["model"], each["code"], each["accepted"]) for each in listed] == [("bad", code, False)]


@pytest.mark.parametrize("code", ["missing-file", "partial-download", "truncated-file", "private-key"])
def test_a_version_that_accepts_a_finding_is_published(releases: Releases, code: str) -> None:
    releases.add("m@1.0.0", REFUSED[code], accept=[code])
    report = releases.apply()
    assert not report.failed
    (found,) = (each for each in report.plan.findings["m@1.0.0"] if each.accepted)
    assert found.code == code
    assert f"accepted: {found.message}" in plan_text(report.plan)
    assert releases.plan().changes == ()


@pytest.mark.parametrize("code", ["missing-file", "partial-download"])
def test_accepting_one_finding_accepts_no_other(releases: Releases, code: str) -> None:
    releases.add("m@1.0.0", {**SHARD, "x.part": b""}, accept=[code])
    (blocked,) = releases.plan().changes
    assert isinstance(blocked, Blocked)


def test_a_plan_names_the_first_of_several_reasons_and_how_to_see_the_others(releases: Releases) -> None:
    releases.add("m@1.0.0", {"a.bin": POINTER, "b.bin": POINTER, **SHARD})
    (blocked,) = releases.plan().changes
    assert blocked.reason == (
        "'a.bin' is a Git LFS pointer, not the file itself (and 2 more: `reconcile lint m@1.0.0` lists them)"
    )


@pytest.mark.parametrize("code", ["pointer-file", "credentials", "missing-file", "truncated-file"])
def test_a_published_version_is_never_examined(
    releases: Releases, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    releases.add("m@1.0.0", REFUSED[code], hidden="include")
    with monkeypatch.context() as patch:  # as if an earlier release had published it
        patch.setattr("reconciler.loop.sources.require_publishable", lambda *_: None)
        assert not releases.apply().failed
    releases.memory["a"].held.clear()

    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("a published version was examined")

    monkeypatch.setattr("reconciler.loop.entrance.examine", forbidden)
    report = releases.apply()
    assert not report.failed
    assert report.plan.findings == {}
    assert releases.cid("m@1.0.0") in releases.memory["a"].held
    assert releases.plan().changes == ()


def test_findings_are_no_part_of_a_plans_digest(releases: Releases) -> None:
    releases.add("m@1.0.0")
    plan = releases.plan()
    document = plan_document(plan)
    assert [each["code"] for each in document["findings"]] == ["no-license"]
    assert plan_document(replace(plan, findings={}))["digest"] == document["digest"]


def test_a_car_is_examined_like_a_directory(releases: Releases) -> None:
    for name, files in (("bad", {"model.bin": POINTER}), ("good", {"model.safetensors": WEIGHTS})):
        write_car(releases.root / f"{name}.car", files)
        releases.fields[name] = {"1.0.0": {"path": f"{name}.car"}}
    plan = releases.plan()
    assert [change.model for change in plan.changes if isinstance(change, Blocked)] == ["bad"]


# --- git


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    git(tmp_path, "init", "--quiet")
    (tmp_path / ".gitignore").write_text("*.log\ncache/\n")
    return tmp_path


def ignored(directory: Path, files: Mapping[str, bytes]) -> list[str]:
    for name, data in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_bytes(data)
    found = listing_findings(scan(directory, include_hidden=False))
    return [each.path for each in found if each.code is FindingCode.IGNORED_FILE]


@pytest.mark.parametrize(
    "name",
    [
        "train.log",
        "sub/train.log",
        "cache/x.bin",
        "a b.log",
        "ü.log",
        ":(glob)x.log",
        "-x.log",
        "*.log",
        '"q.log',
    ],
)
def test_a_file_that_git_ignores_is_a_warning(repository: Path, name: str) -> None:
    assert ignored(repository / "w", {name: b"x", "model.bin": b"x"}) == [name]


def test_a_tracked_file_is_not_ignored(repository: Path) -> None:
    assert ignored(repository / "w", {"a.log": b"x", "b": b"x"}) == ["a.log"]
    git(repository, "add", "--force", "w/a.log")
    assert ignored(repository / "w", {}) == []


def test_a_directory_that_is_kept_out_of_git_on_purpose_has_no_warning(repository: Path) -> None:
    assert ignored(repository / "cache", {"model.bin": b"x", "config.json": b"{}"}) == []


@pytest.mark.parametrize("broken", [".git", ".git/HEAD"])
def test_a_broken_or_missing_repository_is_no_finding(tmp_path: Path, broken: str) -> None:
    (tmp_path / broken).parent.mkdir(exist_ok=True)
    (tmp_path / broken).write_text("gitdir: /nonexistent\n")
    assert ignored(tmp_path / "w", {"a.log": b"x", "b": b"x"}) == []


# --- hidden directories of download tools


@pytest.mark.parametrize(
    "leftover",
    [
        ".cache/huggingface/download/ab.12.incomplete",
        ".cache/huggingface/download/sub/x.incomplete",
        "._____temp/m.bin",
    ],
)
def test_an_unfinished_download_in_a_hidden_directory_is_refused(tmp_path: Path, leftover: str) -> None:
    for name in (leftover, ".cache/huggingface/download/config.json.metadata", "config.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"{}")
    found = [each for each in listing_findings(scan(tmp_path, include_hidden=False)) if each.refuses]
    assert [(each.code, each.path) for each in found] == [(FindingCode.PARTIAL_DOWNLOAD, leftover)]
    (tmp_path / leftover).unlink()
    assert not any(each.refuses for each in listing_findings(scan(tmp_path, include_hidden=False)))


def test_an_unfinished_file_of_a_hugging_face_cache_is_refused(tmp_path: Path) -> None:
    cache = tmp_path / "models--acme--llm"
    snapshot = cache / "snapshots/0123abcd"
    snapshot.mkdir(parents=True)
    (cache / "blobs").mkdir()
    (cache / "blobs/aaa").write_bytes(b"{}")
    os.symlink("../../blobs/aaa", snapshot / "config.json")
    assert not any(each.refuses for each in listing_findings(scan(snapshot, include_hidden=False)))
    (cache / "blobs/bbb.incomplete").write_bytes(b"half")
    (found,) = (each for each in listing_findings(scan(snapshot, include_hidden=False)) if each.refuses)
    assert found.code is FindingCode.PARTIAL_DOWNLOAD


def test_a_hidden_link_leads_nowhere(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other/x.incomplete").write_bytes(b"x")
    (tmp_path / "w/.cache/huggingface").mkdir(parents=True)
    (tmp_path / "w/a").write_bytes(b"x")
    os.symlink(tmp_path / "other", tmp_path / "w/.cache/huggingface/download")
    assert not any(each.refuses for each in listing_findings(scan(tmp_path / "w", include_hidden=False)))


# --- references


@pytest.mark.parametrize("gone", [False, True])
def test_a_published_version_gives_the_same_findings_from_its_path_and_from_a_target(
    releases: Releases, gone: bool
) -> None:
    files = {**SHARD, "big.safetensors": safetensors(bytes(3 << 20)), "a.pkl": b"\x80\x04]."}
    releases.add("m@1.0.0", files, accept=["missing-file"])
    assert not releases.apply().failed
    if gone:
        for path in sorted(releases.source("m@1.0.0").iterdir()):
            path.unlink()
        releases.source("m@1.0.0").rmdir()
    releases.write()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("reconciler.targets.open.open_target", releases._opener(open_target))
        linted = lint_reference(releases.layout(), "m@1.0.0", {}, QUIET)
    found = [(str(each.code), each.path, each.accepted) for each in linted.findings]
    assert found == [
        ("no-license", "", False),
        ("pickle", "a.pkl", False),
        ("missing-file", "model-00001-of-00002.safetensors", True),
    ]
    assert not linted.refused


def test_the_examination_reads_only_headers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = 0
    real = os.pread

    def counted(descriptor: int, size: int, offset: int) -> bytes:
        nonlocal read
        data = real(descriptor, size, offset)
        read += len(data)
        return data

    (tmp_path / "model.safetensors").write_bytes(safetensors(bytes(20 << 20)))
    (tmp_path / "weights.bin").write_bytes(bytes(20 << 20))
    monkeypatch.setattr("reconciler.fs.os.pread", counted)
    listing_findings(scan(tmp_path, include_hidden=False))
    assert 0 < read < 20_000
