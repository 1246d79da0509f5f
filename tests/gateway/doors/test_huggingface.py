from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import quote

import pytest

from reconciler.content.cid import RAW, hash_block
from tests.conformance.doors import DoorSuite
from tests.support.doors import BIG, FILES, GGUF, DoorServer, ListedDoorFile, Listing, sha256
from tests.support.gateway import Got, served


class HubClient:
    """Requests as clients of the Hub send them."""

    def __init__(self, server: DoorServer) -> None:
        self.server = server

    def listing(self, model: str, revision: str) -> Listing:
        got = self.server.served.get(
            f"/api/models/{model}/tree/{quote(revision, safe='')}?recursive=true&expand=false"
        )
        assert got.status == 200, got
        return {
            entry["path"]: ListedDoorFile(entry["size"], entry["lfs"]["oid"])
            for entry in json.loads(got.body)
            if entry["type"] == "file"
        }

    def revisions(self, model: str) -> set[str]:
        refs = json.loads(self.server.served.get(f"/api/models/{model}/refs").body)
        return {each["name"] for each in refs["tags"]}

    def fetch(self, model: str, revision: str, path: str, method: str = "GET", **headers: str) -> Got:
        return self.server.served.get(
            f"/{model}/resolve/{quote(revision, safe='%')}/{quote(path)}", method, **headers
        )

    def raw(self, model: str, revision: str, quoted: str) -> Got:
        return self.server.served.get(f"/{model}/resolve/{revision}/{quoted}")


@pytest.fixture(scope="module")
def client(server: DoorServer) -> HubClient:
    return HubClient(server)


class TestHuggingFaceDoor(DoorSuite):
    """The suite of all doors."""


def test_snapshot_download_gives_every_file(server: DoorServer, tmp_path: Path) -> None:
    import huggingface_hub

    got = Path(huggingface_hub.snapshot_download(BIG, endpoint=server.url, cache_dir=tmp_path / "cache"))
    assert got.name == server.commit(f"{BIG}@1.2.0")
    for path, data in FILES.items():
        assert (got / path).read_bytes() == data
    assert (tmp_path / "cache/models--acme--Tiny-LLM/refs/main").read_text() == got.name
    offline = huggingface_hub.snapshot_download(
        BIG, endpoint=server.url, cache_dir=tmp_path / "cache", local_files_only=True
    )
    assert Path(offline) == got


def test_the_api_of_the_client_agrees(server: DoorServer, tmp_path: Path) -> None:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import (
        RemoteEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    api = HfApi(endpoint=server.url, token=False)
    info = api.model_info(BIG, files_metadata=True)
    assert (info.id, info.sha) == (BIG, server.commit(f"{BIG}@1.2.0"))
    sizes = {each.rfilename: (each.size, each.lfs and each.lfs.sha256) for each in info.siblings or []}
    assert all(sizes[path] == (len(data), sha256(data)) for path, data in FILES.items())
    assert {ref.name for ref in api.list_repo_refs(BIG).tags} == {"1.0.0", "1.1.0", "1.2.0"}
    assert {ref.name for ref in api.list_repo_refs(BIG).branches} == {"main", "stable"}
    found = api.get_paths_info(BIG, ["config.json", "notes", "none"], revision="stable")
    assert [each.path for each in found] == ["config.json", "notes"]
    assert {each.path for each in api.list_repo_tree(BIG, "notes", revision="1.x")} == {
        "notes/deep",
        "notes/read me+1%.txt",
        "notes/é.txt",
    }
    assert [model.id for model in api.list_models(author="acme")] == [GGUF, BIG]
    assert [data.id for data in api.list_datasets()] == ["acme/data"]
    assert api.file_exists(BIG, "config.json")
    assert not api.file_exists(BIG, "none.json")
    with pytest.raises(RepositoryNotFoundError):
        api.model_info("acme/none")
    with pytest.raises(RevisionNotFoundError):
        api.model_info(BIG, revision="9.9.9")
    with pytest.raises(RemoteEntryNotFoundError):
        api.hf_hub_download(BIG, "none.json", cache_dir=tmp_path)


def test_a_tree_is_sent_in_pages(server: DoorServer) -> None:
    path = f"/api/models/{BIG}/tree/1.2.0?recursive=true&limit=3"
    found: list[str] = []
    while path:
        got = server.served.get(path)
        entries = json.loads(got.body)
        assert 0 < len(entries) <= 3
        found += [entry["path"] for entry in entries if entry["type"] == "file"]
        link = got.headers.get("link", "")
        path = link.partition(">")[0].removeprefix(f"<{server.url}")
    assert sorted(found) == sorted([*FILES, "SHA256SUMS", "manifest.json"])


def test_a_dataset_is_not_a_model(server: DoorServer) -> None:
    assert server.served.get("/datasets/acme/data/resolve/main/data/train.jsonl").status == 200
    got = server.served.get("/api/models/acme/data")
    assert (got.status, got.headers["x-error-code"]) == (404, "RepoNotFound")


def test_xet_is_never_offered(server: DoorServer) -> None:
    for method in ("GET", "HEAD"):
        got = server.served.get(f"/{BIG}/resolve/main/model.safetensors", method)
        assert not [name for name in got.headers if "xet" in name or name == "link"]


def test_a_server_without_a_store_serves_what_another_one_has(
    server: DoorServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECONCILE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "empty").mkdir()
    arguments = ("--doors", "hf", "--index", str(server.releases.index_file), "--upstream", server.url)
    with served(tmp_path / "empty", arguments=arguments) as rack:
        for _ in range(2):
            assert rack.get(f"/{BIG}/resolve/main/model.safetensors").body == FILES["model.safetensors"]
        root = server.releases.cid(f"{BIG}@1.2.0")
        assert rack.get(f"/ipfs/{root}?format=raw").status == 200, "its neighbours can fetch by CID"
        other = server.releases.source(f"{BIG}@1.0.0") / "config.json"
        assert rack.get(f"/ipfs/{hash_block(RAW, other.read_bytes())}?format=raw").status == 404
    assert list((tmp_path / "cache" / "upstream").glob("??/*"))
