"""Real clients of registries, each with a home of its own."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.doors import BIG, FILES, GGUF, QUANTISED, DoorServer, sha256

NAME = BIG.lower()
_PATH = "/usr/local/bin:/usr/bin:/bin"


def run(home: Path, *command: str, **environ: str) -> str:
    """Run a program found on PATH; return what it printed."""
    done = subprocess.run(
        [shutil.which(command[0]) or command[0], *command[1:]],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
        env={"PATH": _PATH, "HOME": str(home), **environ},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# --- ollama


@pytest.fixture
def ollama(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of an `ollama serve` on loopback with its own models, which asks nothing outside."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environ = {
        "OLLAMA_HOST": f"127.0.0.1:{port}",
        "OLLAMA_MODELS": str(tmp_path / "models"),
        "OLLAMA_NOHISTORY": "1",
        "OLLAMA_NO_CLOUD": "1",
        "DO_NOT_TRACK": "1",
        "NO_PROXY": "*",
        "HTTPS_PROXY": "http://127.0.0.1:9",
    }
    with (tmp_path / "ollama.log").open("wb") as log:
        process = subprocess.Popen(
            [shutil.which("ollama") or "ollama", "serve"],
            env={"PATH": _PATH, "HOME": str(tmp_path), **environ},
            stdout=log,
            stderr=log,
        )
        try:
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline and process.poll() is None:
                try:
                    socket.create_connection(("127.0.0.1", port), 1).close()
                    break
                except OSError:
                    time.sleep(0.1)
            yield environ
        finally:
            process.terminate()
            process.wait(30)


@pytest.mark.ollama
@pytest.mark.slow
def test_ollama_pulls_lists_and_shows_a_model(
    server: DoorServer, ollama: dict[str, str], tmp_path: Path
) -> None:
    name = f"{server.url.removeprefix('http://')}/{GGUF}:1.0.0"
    run(tmp_path, "ollama", "pull", name, "--insecure", **ollama)
    blobs = tmp_path / "models" / "blobs"
    for path in ("tiny-Q4_K_M.gguf", "template", "params", "LICENSE"):
        data = QUANTISED[path]
        assert (blobs / f"sha256-{sha256(data)}").read_bytes() == data
    assert not [each.name for each in blobs.iterdir() if "partial" in each.name]
    assert name in run(tmp_path, "ollama", "list", **ollama)
    shown = run(tmp_path, "ollama", "show", name, "--modelfile", **ollama)
    assert QUANTISED["template"].decode() in shown
    assert "<end>" in shown
    run(tmp_path, "ollama", "pull", name.replace(":1.0.0", ":Q8_0"), "--insecure", **ollama)
    assert (blobs / f"sha256-{sha256(QUANTISED['tiny-Q8_0.gguf'])}").is_file()


# --- skopeo


@pytest.mark.skopeo
@pytest.mark.parametrize("prefix", ["", "image/"])
def test_skopeo_copies_the_artifact_and_the_image(server: DoorServer, tmp_path: Path, prefix: str) -> None:
    policy = tmp_path / "policy.json"
    policy.write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
    source = f"docker://{server.url.removeprefix('http://')}/{prefix}{NAME}:1.2.0"
    copied = tmp_path / "copied"
    options = ("--policy", str(policy), "--tmpdir", str(tmp_path))
    run(tmp_path, "skopeo", *options, "copy", "--src-tls-verify=false", source, f"dir:{copied}")
    manifest = json.loads((copied / "manifest.json").read_text())
    found: dict[str, bytes] = {}
    for layer in manifest["layers"]:
        blob = copied / layer["digest"].removeprefix("sha256:")
        if not prefix:
            found[layer["annotations"]["org.opencontainers.image.title"]] = blob.read_bytes()
            continue
        with tarfile.open(blob) as tar:
            for entry in tar:
                if (file := tar.extractfile(entry)) is not None:
                    found[entry.name.removeprefix("models/")] = file.read()
    assert {path: found[path] for path in FILES} == FILES


# --- oras


@pytest.mark.oras
def test_oras_discovers_and_pulls_the_signatures_of_a_version(server: DoorServer, tmp_path: Path) -> None:
    folder = server.releases.index_file.parent / "signatures" / BIG / "1.1.0" / ("ab" * 8)
    folder.mkdir(parents=True)
    (folder / "release.sigstore.json").write_bytes(b'{"a": "bundle"}')
    name = f"{server.url.removeprefix('http://')}/{NAME}"
    found = run(tmp_path, "oras", "discover", "--plain-http", "--format", "json", f"{name}:1.1.0")
    document = json.loads(found)
    (entry,) = document.get("referrers") or document["manifests"]
    assert entry["artifactType"] == "application/vnd.dev.sigstore.bundle.v0.3+json"
    target = f"{name}@{entry['digest']}"
    run(tmp_path, "oras", "pull", "--plain-http", "--no-tty", "-o", str(tmp_path / "got"), target)
    (got,) = (tmp_path / "got").iterdir()
    assert got.read_bytes() == b'{"a": "bundle"}'
