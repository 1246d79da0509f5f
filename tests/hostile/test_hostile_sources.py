"""A run over a source that lies publishes nothing, and ends with one error that shows no secret.

The lies are those of the tests of each kind of source, which check the errors themselves.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("obstore")

from tests.conformance.sources import FILES
from tests.sources import test_hub_lies, test_lfs, test_object_store, test_raw_answers
from tests.sources.test_lfs import LfsSubject, pushed, subject  # noqa: F401  fixtures
from tests.support.command_line import CommandLine
from tests.support.hub_server import HubRepository, hub_server
from tests.support.lfs_peer import PASSWORD
from tests.support.s3_server import KEY_ID, SECRET, s3_server

TOKEN = "canary-NeverPrintedAnywhere"
INDEX = """\
schema: 1
id: acme
defaults: {{targets: [store]}}
models:
  llm: {{license: MIT, versions: {{"1.0.0": {{source: "{source}", created_at: "2026-05-01T00:00:00Z"}}}}}}
"""
#: those that are run at any time, one for each stage of a run; the others are slow
QUICK = {
    "traversal",
    "next page in itself",
    "other bytes in storage",
    "other bytes of the right length",
    "not modified",
    "key with an empty name",
}


def kinds(lies: dict[str, object]) -> list[object]:
    return [pytest.param(name, id=name, marks=() if name in QUICK else pytest.mark.slow) for name in lies]


@pytest.fixture
def project(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> CommandLine:
    """An empty directory, in an environment with secrets."""
    monkeypatch.setattr("reconciler.download.source_state._RECOVERY", 0.001)
    monkeypatch.setattr("reconciler.sources.bucket._RETRIES", 0)
    for name, value in {"HUB_TOKEN": TOKEN, "KEY_ID": KEY_ID, "SECRET": SECRET}.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "repository").mkdir()
    return CommandLine(tmp_path / "repository", monkeypatch, capsys)


def assert_nothing_is_published(cli: CommandLine, source: str, **entry: str) -> None:
    """Run with a version from `source`, whose entry in sources.yaml is given."""
    cli.write("releases/index.yaml", INDEX.format(source=source))
    cli.write("releases/sources.yaml", json.dumps({"sources": {source.partition(":")[0]: entry}}))
    before = (cli.root / "releases/index.yaml").read_bytes()
    done = cli("--json")
    assert done.code == 5, done
    (item,) = done.document["items"]
    assert item["state"] in ("failed", "blocked"), item
    said = item["detail"] or item["reason"]
    assert said.isprintable()
    assert len(said) < 600
    for secret in (TOKEN, SECRET, PASSWORD, "hunter2", "pass@"):
        assert secret not in done.out + done.err
    assert cli.cars() == []
    assert (cli.root / "releases/index.yaml").read_bytes() == before
    assert not (cli.root / "releases/records").exists()


@pytest.mark.parametrize("name", kinds(test_raw_answers.LIES))
def test_a_web_server_that_breaks_http_publishes_nothing(project: CommandLine, name: str) -> None:
    with test_raw_answers.raw_server(test_raw_answers.LIES[name][0]) as server:
        assert_nothing_is_published(project, "web:m", kind="http", url=server.url, token_env="HUB_TOKEN")


@pytest.mark.parametrize("name", kinds(test_hub_lies.LISTING_LIES | test_hub_lies.READING_LIES))
def test_a_hub_that_lies_publishes_nothing(project: CommandLine, name: str) -> None:
    lie = (test_hub_lies.LISTING_LIES | test_hub_lies.READING_LIES)[name]
    with hub_server() as hub:
        hub.token, hub.page = TOKEN, 3
        repository = hub.add(HubRepository.make("acme/llm", FILES))
        hub.lie = lie[0] if name in test_hub_lies.LISTING_LIES else lie[1]
        source = f"hub:acme/llm@{repository.commit}"
        entry = {"kind": "huggingface", "endpoint": hub.url, "token_env": "HUB_TOKEN"}
        assert_nothing_is_published(project, source, **entry)
        assert hub.storage.sent_headers("authorization") == set()


@pytest.mark.parametrize("name", kinds(test_object_store.LIES))
def test_a_bucket_that_lies_publishes_nothing(project: CommandLine, name: str) -> None:
    with s3_server() as server:
        for path, data in test_object_store.FILES.items():
            server.put(f"released/llm/1.0.0/{path}", data)
        server.fault = test_object_store.LIES[name][0]
        entry = {
            "kind": "object-store",
            "url": "s3://weights/released",
            "endpoint": server.url,
            "key_id_env": "KEY_ID",
            "secret_env": "SECRET",
        }
        assert_nothing_is_published(project, "w:llm/1.0.0/", **entry)


@pytest.mark.slow
@pytest.mark.git_lfs
@pytest.mark.parametrize(
    "name", sorted(test_lfs.LIES.keys() - {"a part without a range"})
)  # a run asks for ranges
def test_an_lfs_server_that_lies_publishes_nothing(
    project: CommandLine,
    subject: LfsSubject,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    for variable, value in subject.environ.items():
        monkeypatch.setenv(variable, value)
    project.root = subject.root
    subject.peer.lie = test_lfs.LIES[name][0]
    entry = {"kind": "lfs", "url": subject.peer.url, "token_env": "LFS_TOKEN"}
    assert_nothing_is_published(project, "big:weights", **entry)
    assert subject.peer.storage.sent_headers("authorization") == set()
