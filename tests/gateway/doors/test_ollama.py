from __future__ import annotations

import json

import pytest

from reconciler.gateway.doors.ollama import MANIFEST_TYPE
from tests.support.doors import BIG, GGUF, QUANTISED, DoorServer, sha256
from tests.support.gateway import Got

AGENT = "ollama/0.0.0 (amd64 linux) Go/go1.26"


class OllamaClient:
    """The requests of `ollama pull`, as a build of it sends them."""

    def __init__(self, server: DoorServer) -> None:
        self.server = server

    def manifest(self, model: str, tag: str) -> Got:
        return self.server.served.get(f"/v2/{model}/manifests/{tag}", Accept=MANIFEST_TYPE, User_Agent=AGENT)

    def pull(self, model: str, tag: str) -> dict[str, bytes]:
        """Return every blob by its media type: HEAD, GET for the address, and two ranges of it."""
        manifest = json.loads(self.manifest(model, tag).body)
        found = {}
        for layer in (manifest["config"], *manifest["layers"]):
            path = f"/v2/{model}/blobs/{layer['digest']}"
            size = int(self.server.served.get(path, "HEAD", User_Agent=AGENT).headers["content-length"])
            address = self.server.served.get(path, User_Agent=AGENT).headers["location"]
            middle = size // 2
            parts = [
                self.server.served.get(address, Range=f"bytes={start}-{end}").body
                for start, end in ((0, middle - 1), (middle, size - 1))
                if start <= end
            ]
            data = b"".join(parts)
            assert f"sha256:{sha256(data)}" == layer["digest"]
            assert len(data) == layer["size"]
            found[layer["mediaType"].rpartition(".")[2]] = data
        return found


@pytest.fixture(scope="module")
def client(server: DoorServer) -> OllamaClient:
    return OllamaClient(server)


def test_a_model_is_pulled_with_what_lies_beside_it(client: OllamaClient) -> None:
    got = client.pull(GGUF, "1.0.0")
    config = json.loads(got.pop("v1+json"))
    assert got == {
        "model": QUANTISED["tiny-Q4_K_M.gguf"],
        "template": QUANTISED["template"],
        "params": QUANTISED["params"],
        "license": QUANTISED["LICENSE"],
    }
    assert (config["model_format"], config["model_family"]) == ("gguf", "llama")
    assert (config["file_type"], config["model_type"]) == ("Q4_K_M", "10.24K")


@pytest.mark.parametrize(
    ("tag", "file"),
    [
        ("latest", "tiny-Q4_K_M.gguf"),
        ("Q8_0", "tiny-Q8_0.gguf"),
        ("q8_0", "tiny-Q8_0.gguf"),
        ("1.0.0-Q8_0", "tiny-Q8_0.gguf"),
        ("1.x-Q4_K_M", "tiny-Q4_K_M.gguf"),
    ],
)
def test_a_tag_chooses_version_and_quantisation(client: OllamaClient, tag: str, file: str) -> None:
    assert client.pull(GGUF, tag)["model"] == QUANTISED[file]


@pytest.mark.parametrize(
    ("model", "tag", "said"),
    [
        (GGUF, "2.0.0-rc.1", "is split into 2 files"),
        (GGUF, "1.0.0-Q2_K", "has no Q2_K; it has Q4_K_M, Q8_0"),
        (BIG, "latest", "has no GGUF file"),
        (GGUF, "9.9.9", "has no version"),
        ("acme/none", "latest", "no model"),
    ],
)
def test_what_cannot_be_pulled_is_a_404_that_says_why(
    client: OllamaClient, model: str, tag: str, said: str
) -> None:
    got = client.manifest(model, tag)
    assert got.status == 404
    assert said in json.loads(got.body)["errors"][0]["message"]


def test_names_without_an_organisation_are_in_the_library(client: OllamaClient) -> None:
    assert "has no GGUF file" in client.manifest("library/plain", "3.0.0-rc.1").body.decode()


def test_a_refused_blob_has_no_body(client: OllamaClient) -> None:
    got = client.server.served.get(f"/v2/{GGUF}/blobs/sha256:{'0' * 64}", User_Agent=AGENT)
    assert (got.status, got.body) == (404, b"")
