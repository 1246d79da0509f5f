"""`fetch`, `lock`, `resolve` with a remote index, the cache layout of huggingface_hub, the Python API."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import reconciler
from reconciler.cli import storage_initializer
from reconciler.consume.open import Sources
from reconciler.consume.transfer import Transfer
from reconciler.download.limits import DownloadLimits
from tests.support.command_line import CommandLine
from tests.support.http_peer import Asked, Said, http_peer
from tests.support.releases import assert_document


@pytest.fixture(autouse=True)
def own_directories(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No cache and no configuration but the test's own."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("RECONCILE_CACHE", str(home / "cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / "config"))
    return home


@pytest.fixture
def released(reconcile: CommandLine) -> CommandLine:
    """Two versions, in the store and with their CIDs in the index."""
    assert reconcile().code == 0
    return reconcile


def holds_its_sums(directory: Path) -> bool:
    lines = (directory / "SHA256SUMS").read_text().splitlines()
    return bool(lines) and all(
        hashlib.sha256((directory / name).read_bytes()).hexdigest() == digest
        for digest, name in (line.split("  ") for line in lines)
    )


def test_fetch_takes_a_version_from_the_targets_of_the_repository(released: CommandLine) -> None:
    done = released("fetch", "llm@^1", "out")
    assert (done.code, done.out) == (0, "out\n")
    assert "from store; every block verified; SHA256SUMS matches" in done.err
    assert holds_its_sums(released.root / "out")
    document = released("fetch", "llm@^1", "out", "--json").document
    assert (document["version"], document["already"], document["sources"][0]["bad"]) == ("1.1.0", True, 0)


def test_events_are_lines_of_json_and_the_last_is_the_result(released: CommandLine) -> None:
    done = released("fetch", "llm@^1", "out", "--json-events")
    *events, result = map(json.loads, done.out.splitlines())
    for event in events:
        assert_document("event", event)
    assert_document("fetch", result)
    assert [event["event"] for event in events if event["task"] == events[-1]["task"]] == ["begin", "end"]
    assert {"begin", "end"} == {event["event"] for event in events}
    failed = released("fetch", "llm@9", "no", "--json-events")
    *events, error = map(json.loads, failed.out.splitlines())
    assert_document("error", error)
    assert error["error"]["exit_code"] == failed.code == 2


def test_fetch_by_cid_needs_no_index(released: CommandLine, tmp_path_factory: pytest.TempPathFactory) -> None:
    cid = released("resolve", "llm@1.0.0").out.strip()
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    store = released.root / ".reconcile/store"
    assert released("fetch", cid, elsewhere / "out", "--store", store, cwd=elsewhere).code == 0
    assert holds_its_sums(elsewhere / "out")
    done = released("fetch", "llm", elsewhere / "no", "--store", store, cwd=elsewhere)
    assert done.code == 2
    assert "no index" in done.err
    assert not (elsewhere / "no").exists()


@pytest.mark.parametrize("form", ["ipfs://{}", "/ipfs/{}", "https://nowhere.invalid/ipfs/{}"])
def test_a_path_below_a_cid_is_fetched_alone(released: CommandLine, form: str) -> None:
    cid = released("resolve", "llm@1.0.0").out.strip()
    named = form.format(cid)
    assert released("fetch", f"{named}/SHA256SUMS", "sums").code == 0
    assert released("fetch", cid, "whole").code == 0
    assert (released.root / "sums").read_bytes() == (released.root / "whole/SHA256SUMS").read_bytes()
    assert released("get", f"{named}/SHA256SUMS", "again").code == 0
    missing = released("fetch", f"{named}/none.bin", "none")
    assert (missing.code, (released.root / "none").exists()) == (2, False)
    assert "has no 'none.bin'" in missing.err
    assert released("resolve", f"{named}/SHA256SUMS").out == f"{cid}/SHA256SUMS\n"
    assert released("resolve", f"{named}/SHA256SUMS", "--json").document["path"] == "SHA256SUMS"
    assert released("resolve", "--reverse", named).out == "llm@1.0.0\n"
    assert released("resolve", "--reverse", f"{named}/SHA256SUMS").out == "llm@1.0.0\n"


def test_an_index_that_cannot_be_written_beside_is_enough(
    released: CommandLine, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """As in a container that mounts the index read-only: nothing is cached beside it."""
    mounted = tmp_path_factory.mktemp("mounted")
    (mounted / "releases").mkdir()
    (mounted / "releases/index.yaml").write_bytes((released.root / "releases/index.yaml").read_bytes())
    (mounted / ".reconcile").touch()  # in the way of the directory, also for root
    out, store = mounted.with_name("out"), released.root / ".reconcile/store"
    assert released("fetch", "llm", out, "--store", store, cwd=mounted).code == 0
    assert holds_its_sums(out)


def test_fetch_from_a_car(released: CommandLine) -> None:
    assert released("export", "llm@1.0.0", "it.car").code == 0
    assert released("fetch", "llm@1.0.0", "out", "--car", "it.car").code == 0
    done = released("fetch", "llm@1.1.0", "other", "--car", "it.car")
    assert done.code == 1
    assert "is a CAR of" in done.err


def test_a_lock_is_what_fetch_takes_until_it_is_renewed(released: CommandLine) -> None:
    assert released("lock", "llm@^1", "llm@stable").code == 0
    lock = json.loads((released.root / "models.lock").read_text())
    assert [(entry["requested"], entry["version"]) for entry in lock["models"]] == [
        ("llm@^1", "1.1.0"),
        ("llm@stable", "1.0.0"),
    ]
    assert lock["models"][0]["size"] > 0
    assert released("lock", "--check").code == 0
    before = (released.root / "models.lock").read_bytes()
    index = (released.root / "releases/index.yaml").read_text()
    released.write("releases/index.yaml", index.replace('stable: "1.0.0"', 'stable: "1.1.0"'))
    assert released("lock", "--check").code == 3
    assert released("lock", "--check", "--json").document["changed"] == ["llm@stable"]
    assert (released.root / "models.lock").read_bytes() == before
    assert released("fetch", "llm@stable", "old", "--locked").code == 0
    assert json.loads((released.root / "old/manifest.json").read_text())["version"] == "1.0.0"
    assert released("lock").code == 0
    assert released("fetch", "llm@stable", "new", "--locked").code == 0
    assert json.loads((released.root / "new/manifest.json").read_text())["version"] == "1.1.0"


@pytest.mark.parametrize(
    "text", ["", "[]", '{"schema": 2, "models": []}', '{"schema": 1, "models": [{"requested": "llm"}]}']
)
def test_a_lock_that_does_not_hold_is_one_clear_error(released: CommandLine, text: str) -> None:
    released.write("models.lock", text)
    done = released("fetch", "llm", "out", "--locked")
    assert done.code == 2
    assert "models.lock" in done.err
    assert not (released.root / "out").exists()


def test_what_is_not_locked_is_not_fetched(released: CommandLine) -> None:
    released("lock", "llm@1.0.0")
    done = released("fetch", "llm@^1", "out", "--locked")
    assert done.code == 2
    assert "'llm@^1' is not in 'models.lock', which has llm@1.0.0" in done.err


def test_an_index_in_a_git_repository_is_named_as_pip_does_and_its_commit_is_locked(
    released: CommandLine, tmp_path: Path
) -> None:
    """The copy is in a directory that is itself a repository, as a home directory may be."""
    git = ["git", "-C", str(released.root)]
    subprocess.run(["git", "init", "--quiet", "-b", "main", released.root], check=True)
    subprocess.run([*git, "add", "releases"], check=True)
    subprocess.run([*git, "commit", "--quiet", "-m", "index"], check=True)
    commit = subprocess.check_output([*git, "rev-parse", "HEAD"], text=True).strip()
    away = tmp_path / "away"
    away.mkdir()
    subprocess.run(["git", "init", "--quiet", os.environ["RECONCILE_CACHE"]], check=True)
    index = f"git+file://{released.root}@main"
    cid = released("resolve", "llm@1.0.0").out
    assert released("resolve", "llm@1.0.0", "--index", index, cwd=away).out == cid
    assert released("lock", "llm@1.0.0", "--index", index, cwd=away).code == 0
    here = released("lock", "llm@1.0.0", "--json").document["models"][0]
    assert here["size"] > 0
    assert json.loads((away / "models.lock").read_text())["models"] == [here | {"commit": commit}]
    assert released("resolve", "llm@1.0.0", "--index", index, "--offline", cwd=away).out == cid
    done = released("resolve", "llm", "--index", "ipns://models.example/index.yaml", cwd=away)
    assert done.code == 2
    assert "'models.example' is a domain name; DNSLink records are not signed" in done.err


def test_versions_of_a_cid_are_found(released: CommandLine) -> None:
    cid = released("resolve", "llm@1.0.0").out.strip()
    assert released("resolve", "--reverse", cid).out == "llm@1.0.0\n"
    assert released("resolve", "--reverse", cid, "--json").document["items"][0]["version"] == "1.0.0"
    none = released("resolve", "--reverse", "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku")
    assert (none.code, none.out) == (1, "")
    assert released("resolve", "--reverse", "llm").code == 2


def test_an_index_elsewhere_is_named_by_flag_environment_or_configuration(
    released: CommandLine, own_directories: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    index = (released.root / "releases/index.yaml").read_bytes()
    cid = released("resolve", "llm@1.0.0").out
    away = tmp_path / "away"
    away.mkdir()

    def serve(_: Asked) -> Said:
        return Said(200, index)

    with http_peer(serve) as peer:
        url = f"{peer.url}/index.yaml"
        assert released("resolve", "llm@1.0.0", "--index", url, cwd=away).out == cid
        monkeypatch.setenv("RECONCILE_INDEX", url)
        assert released("resolve", "llm@1.0.0", cwd=away).out == cid
        monkeypatch.delenv("RECONCILE_INDEX")
        config = own_directories / "config/reconcile/config.yaml"
        config.parent.mkdir(parents=True)
        config.write_text(f"index: {url}\nstores: [{released.root / '.reconcile/store'}]\n")
        assert released("resolve", "llm@1.0.0", cwd=away).out == cid
        assert released("fetch", "llm@1.0.0", "out", cwd=away).code == 0
    assert holds_its_sums(away / "out")
    assert released("resolve", "llm@1.0.0", cwd=away).code == 1
    assert released("resolve", "llm@1.0.0", "--offline", cwd=away).out == cid
    config.write_text("index: x\nnodes: []\n")
    done = released("resolve", "llm@1.0.0", cwd=away)
    assert done.code == 2
    assert "config.yaml:2" in done.err


@pytest.mark.parametrize(
    "name",
    ["", "../x", "..", "/abs", "a/b/c", "a//b", "a/", "a b", "a\\b", "a\nb", "-x", "a--b", "a.git", "x" * 97],
)
def test_a_name_that_huggingface_hub_would_refuse_is_refused(released: CommandLine, name: str) -> None:
    done = released("fetch", "llm", "hf", f"--hf-name={name}")
    assert done.code == 2
    assert "is not a valid repository name" in done.err
    assert not (released.root / "hf").exists()


def test_a_channel_of_any_name_is_a_revision_there(released: CommandLine) -> None:
    index = (released.root / "releases/index.yaml").read_text()
    released.write(
        "releases/index.yaml", index.replace("channels: {stable:", 'channels: {long-term: "1.0.0", stable:')
    )
    assert released("fetch", "llm@long-term", "hf", "--hf-name", "acme/llm").code == 0
    assert {path.name for path in (released.root / "hf/models--acme--llm/refs").iterdir()} >= {
        "long-term",
        "1.0.0",
    }


def test_readers_of_huggingface_hub_find_it_offline(released: CommandLine, tmp_path: Path) -> None:
    cache = tmp_path / "hub"
    assert released("fetch", "llm@stable", cache, "--hf-name", "acme/llm").code == 0
    script = (
        "import sys, pathlib\n"
        "from huggingface_hub import hf_hub_download, scan_cache_dir, snapshot_download\n"
        "cache = sys.argv[1]\n"
        "for revision in (None, '1.0.0', 'stable'):\n"
        "    path = snapshot_download('acme/llm', cache_dir=cache, revision=revision)\n"
        "    assert (pathlib.Path(path) / 'SHA256SUMS').is_file()\n"
        "print(open(hf_hub_download('acme/llm', 'config.json', cache_dir=cache)).read())\n"
        "found = scan_cache_dir(cache)\n"
        "assert not found.warnings and [repo.repo_id for repo in found.repos] == ['acme/llm'], found\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(cache)],
        env={"HF_HUB_OFFLINE": "1", "PATH": "", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "{}\n"), done.stderr


def test_programs_resolve_and_fetch(released: CommandLine) -> None:
    index = released.root / "releases/index.yaml"
    found = reconciler.resolve("llm@^1", index=index)
    assert (found.model, found.version, found.warnings) == ("llm", "1.1.0", ())
    sources = reconciler.Sources(stores=[released.root / ".reconcile/store"])
    done = reconciler.fetch("llm@^1", released.root / "out", index=index, sources=sources)
    assert str(done.root) == found.cid
    assert holds_its_sums(released.root / "out")
    assert reconciler.fetch(found.cid, released.root / "out", sources=sources).already


def test_importing_the_package_loads_nothing_heavy() -> None:
    script = (
        "import sys, reconciler; print(sorted({'httpx', 'yaml', 'git', 'reconciler.api'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


# -- verify a fetched directory ----------------------------------------------------------------------------


@pytest.fixture
def large(reconcile: CommandLine) -> CommandLine:
    """A version with a file of several leaves, kept in the store and fetched to `out`."""
    reconcile.write("weights/llm/1.0.0/model.safetensors", bytes(range(251)) * 15_000)
    assert reconcile().code == 0
    assert reconcile("fetch", "llm@1.0.0", "out", "--no-cache").code == 0
    return reconcile


def damage(directory: Path) -> None:
    with (directory / "model.safetensors").open("r+b") as file:
        for offset in (5, 2_500_000):
            file.seek(offset)
            file.write(b"\xff\xff")
    (directory / "config.json").unlink()
    (directory / "more.txt").write_text("more")


def test_verify_names_what_is_missing_extra_or_changed_and_where(large: CommandLine) -> None:
    assert large("verify", "out").code == 0
    damage(large.root / "out")
    done = large("verify", "out")
    assert done.code == 1
    assert done.out.splitlines() == [
        "missing  config.json",
        "changed  model.safetensors  (2 leaves, the first at byte 0)",
        "extra    more.txt",
    ]
    document = large("verify", "out", "--json").document
    assert document["compared_by"] == "blocks"
    assert document["differences"][1]["offsets"] == [0, 2 << 20]


def test_verify_without_a_store_goes_by_the_released_sums(large: CommandLine) -> None:
    import shutil

    shutil.rmtree(large.root / ".reconcile")
    damage(large.root / "out")
    document = large("verify", "out", "--json").document
    assert document["compared_by"] == "sums"
    assert [(each["kind"], each["path"]) for each in document["differences"]] == [
        ("missing", "config.json"),
        ("changed", "model.safetensors"),
        ("extra", "more.txt"),
    ]
    (large.root / "out/SHA256SUMS").write_text("forged")
    done = large("verify", "out")
    assert done.code == 1
    assert "the differing files cannot be determined" in done.err


def test_verify_as_another_version_says_how_it_differs(large: CommandLine) -> None:
    done = large("verify", "out", "--as", "llm@1.1.0")
    assert done.code == 0, "it is a version of the index, whatever it should have been"
    (large.root / "out/manifest.json").write_text("{}")
    assert "name the version it should be with --as REF" in large("verify", "out").err
    assert "changed  manifest.json" in large("verify", "out", "--as", "llm@1.0.0").out


def test_verify_cache_throws_damaged_files_away(large: CommandLine, own_directories: Path) -> None:
    assert large("fetch", "llm@1.0.0", "again").code == 0
    assert large("verify", "--cache").out == "1 file in the cache, every byte verified\n"
    cached = next((own_directories / "cache/files").glob("*/*"))
    cached.chmod(0o644)
    cached.write_bytes(b"x")
    done = large("verify", "--cache")
    assert (done.code, done.out.splitlines()[0]) == (1, f"damaged, deleted: {cached.name}")
    assert large("verify", "--cache", "--json").document["files"] == 0


def test_one_command_brings_a_directory_from_version_to_version(released: CommandLine) -> None:
    for version in ("1.0.0", "1.1.0", "1.0.0"):
        assert released("fetch", f"llm@{version}", "out").code == 0
        assert holds_its_sums(released.root / "out")
        assert json.loads((released.root / "out/manifest.json").read_text())["version"] == version
    (released.root / "out/mine").write_text("mine")
    done = released("fetch", "llm@^1", "out")
    assert done.code == 2
    assert "'mine' would be lost" in done.err
    assert (released.root / "out/mine").read_text() == "mine"
    (released.root / "out/mine").unlink()
    (released.root / "out/manifest.json").unlink()
    assert released("fetch", "llm@^1", "out").code == 0, "a part of another version is one too"


def test_receipts_of_the_configuration_save_reading(released: CommandLine, own_directories: Path) -> None:
    config = own_directories / "config/reconcile/config.yaml"
    config.parent.mkdir(parents=True)
    config.write_text("receipts: true\n")
    assert released("fetch", "llm@1.0.0", "out").code == 0
    assert "unchanged by its receipt, not read" in released("fetch", "llm@1.0.0", "out").err
    assert released("fetch", "llm@1.0.0", "out", "--json").document["by_receipt"] is True
    assert "every block verified" in released("fetch", "llm@1.0.0", "out", "--check", "full").err
    config.write_text("receipts: false\n")
    assert released("fetch", "llm@1.0.0", "out", "--json").document["by_receipt"] is False


@pytest.fixture
def seen_limits(own_directories: Path, monkeypatch: pytest.MonkeyPatch) -> list[DownloadLimits]:
    """The limits of every transfer; the configuration has 5 connections and 1 MiB per second."""
    config = own_directories / "config/reconcile/config.yaml"
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text("{connections: 5, max_rate: 1M}\n")
    seen: list[DownloadLimits] = []

    class Spied(Transfer):
        def __init__(self, *args: object, **options: object) -> None:
            seen.append(options["limits"])  # type: ignore[arg-type]
            super().__init__(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr("reconciler.consume.fetch.Transfer", Spied)
    return seen


@pytest.mark.parametrize(
    ("given", "limits"),
    [
        ((), DownloadLimits(5, 1 << 20)),
        (("--connections", "3"), DownloadLimits(3, 1 << 20)),
        (("--max-rate", "2G"), DownloadLimits(5, 2 << 30)),
        (("--max-rate", "0", "--connections", "256"), DownloadLimits(256, 0)),
    ],
)
def test_limits_of_a_fetch_come_from_flags_and_from_the_configuration(
    given: tuple[str, ...],
    limits: DownloadLimits,
    released: CommandLine,
    seen_limits: list[DownloadLimits],
) -> None:
    assert released("fetch", "llm@1.0.0", "out", "--no-cache", *given).code == 0
    assert seen_limits == [limits]


def test_every_reader_keeps_to_the_limits_of_the_configuration(
    released: CommandLine, seen_limits: list[DownloadLimits]
) -> None:
    cid = released("resolve", "llm@1.0.0").out.strip()
    assert released("get", cid, "by-get").code == 0
    store = Sources(stores=[released.root / ".reconcile/store"])
    reconciler.fetch(cid, released.root / "by-python", sources=store, cache=False)
    assert storage_initializer.run([f"ipfs://{cid}", str(released.root / "by-container")]) == 0
    assert seen_limits == [DownloadLimits(5, 1 << 20)] * 3


def test_a_rate_that_is_none_is_refused(released: CommandLine) -> None:
    done = released("fetch", "llm@1.0.0", "out", "--max-rate", "fast")
    assert done.code == 2
    assert "'fast' is not a rate" in done.err
