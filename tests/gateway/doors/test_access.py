"""Tokens for models, and TLS, as the user's configuration has them."""

from __future__ import annotations

import base64
import http.client
import json
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.certificates import self_signed
from tests.support.command_line import CommandLine
from tests.support.doors import BIG, FILES, GGUF, DoorServer, door_server
from tests.support.releases import Releases

TOKEN = "tok-4e1f"
CONFIG = """\
serve:
  certificate: server.pem
  access:
    - models: ["acme/*"]
      token_env: ACME_TOKEN
    - models: ["acme/Tiny-GGUF"]
      token_env: OTHER_TOKEN
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DoorServer]:
    home = tmp_path_factory.mktemp("access")
    (home / "reconcile").mkdir()
    (home / "reconcile" / "config.yaml").write_text(CONFIG)
    self_signed(home / "reconcile" / "server.pem")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(home))
        patch.setenv("ACME_TOKEN", TOKEN)
        patch.setenv("OTHER_TOKEN", "tok-other")
        with door_server(home) as running:
            yield running


def get(server: DoorServer, path: str, **headers: str) -> tuple[int, bytes, dict[str, str]]:
    context = ssl.create_default_context(cafile=server.releases.root.parent / "reconcile" / "server.pem")
    connection = http.client.HTTPSConnection("127.0.0.1", server.served.port, timeout=30, context=context)
    try:
        connection.request("GET", path, headers={k.replace("_", "-"): v for k, v in headers.items()})
        answer = connection.getresponse()
        return answer.status, answer.read(), {k.lower(): v for k, v in answer.getheaders()}
    finally:
        connection.close()


def basic(password: str) -> str:
    return "Basic " + base64.b64encode(f"user:{password}".encode()).decode()


HF, OCI = f"/{BIG}/resolve/main/model.safetensors", f"/v2/{BIG.lower()}/manifests/latest"


@pytest.mark.parametrize("path", [HF, OCI, f"/api/models/{BIG}", f"/v2/{BIG.lower()}/tags/list"])
def test_a_model_with_a_rule_needs_its_token(server: DoorServer, path: str) -> None:
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Bearer tok-other"}):
        status, body, _ = get(server, path, **headers)
        assert status == 401, headers
        assert TOKEN not in body.decode("latin-1")
    for authorization in (f"Bearer {TOKEN}", basic(TOKEN)):
        assert get(server, path, Authorization=authorization)[0] == 200


def test_each_token_of_a_model_will_do(server: DoorServer) -> None:
    for token in (TOKEN, "tok-other"):
        assert get(server, f"/api/models/{GGUF}", Authorization=f"Bearer {token}")[0] == 200


def test_other_models_need_none_and_lists_have_no_hidden_ones(server: DoorServer) -> None:
    assert get(server, "/plain/resolve/3.0.0-rc.1/a.bin")[:2] == (200, b"candidate")
    listed = json.loads(get(server, "/api/models")[1])
    assert [each["id"] for each in listed] == ["plain"]
    listed = json.loads(get(server, "/api/models", Authorization=f"Bearer {TOKEN}")[1])
    assert [each["id"] for each in listed] == [GGUF, BIG, "plain"]


def test_blocks_by_cid_need_a_token_too(server: DoorServer) -> None:
    path = f"/ipfs/{server.releases.cid(f'{BIG}@1.2.0')}?format=raw"
    assert get(server, path)[0] == 401
    assert get(server, path, Authorization=f"Bearer {TOKEN}")[0] == 200
    assert get(server, "/health")[0] == 200


def test_a_large_file_is_sent_whole_over_tls(server: DoorServer) -> None:
    status, body, _ = get(server, HF, Authorization=f"Bearer {TOKEN}")
    assert (status, body) == (200, FILES["model.safetensors"])


def test_a_signed_address_of_ollama_needs_no_token_and_is_good_for_one_blob(server: DoorServer) -> None:
    agent = {"User_Agent": "ollama/0.0.0"}
    status, body, _ = get(server, f"/v2/{GGUF}/manifests/latest", Authorization=basic(TOKEN), **agent)
    assert status == 200
    first, second = (layer["digest"] for layer in json.loads(body)["layers"][:2])
    path = f"/v2/{GGUF}/blobs/{first}"
    assert get(server, path, **agent)[0] == 401
    address = get(server, path, Authorization=basic(TOKEN), **agent)[2]["location"]
    assert get(server, address, Range="bytes=0-3")[:2] == (206, b"GGUF")
    assert get(server, address.replace(first, second), Range="bytes=0-3")[0] == 401
    expires = address.partition("expires=")[2].partition("&")[0]
    assert get(server, address.replace(expires, str(int(expires) + 1)))[0] == 401


def test_a_client_without_credentials_is_asked_for_them(server: DoorServer) -> None:
    status, _, headers = get(server, "/v2/")
    assert (status, headers["www-authenticate"]) == (401, 'Basic realm="reconcile"')
    assert get(server, "/v2/", Authorization=basic("any"))[0] == 200


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ("serve: {access: [{models: ['a'], token_env: UNSET_TOKEN}]}\n", "'UNSET_TOKEN' is not set"),
        ("serve: {certificate: none.pem}\n", "cannot be used: no such file"),
        ("serve: {private_key: key.pem}\n", "certificate"),
        ("serve: {port: 1}\n", "port"),
    ],
)
def test_a_configuration_that_cannot_be_used_is_one_error(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    config: str,
    said: str,
) -> None:
    cli = CommandLine(tmp_path, monkeypatch, capsys)
    (tmp_path / "config" / "reconcile").mkdir(parents=True)
    (tmp_path / "config" / "reconcile" / "config.yaml").write_text(config)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    releases = Releases(tmp_path / "repository")
    releases.add("llm@1.0.0")
    releases.apply()
    done = cli(
        "serve",
        "--doors",
        "hf",
        "--index",
        releases.index_file,
        "--store",
        releases.root / ".reconcile/store",
    )
    assert done.code in (1, 2)
    assert said in done.err
