"""The whole loop over a sealed model: publish, damage, repair, fetch; and nothing plain is found anywhere."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import reconciler
from reconciler.cli import storage_initializer
from reconciler.content.cid import parse
from reconciler.index.seal_keys import load_wrapped_keys, unlock
from tests.support.command_line import CommandLine, Done
from tests.support.kubo_node import KuboNode, kubo_node
from tests.support.peers_cluster import cluster
from tests.support.plant import MIB
from tests.support.seals import identity, weights
from tests.support.store_files import harm

SECRET = b'{"architectures": ["SecretForCausalLM"], "hidden_size": 8192}'
FILES = {"model.bin": weights(2 * MIB + 77), "config.json": SECRET, "tokenizer/merges.txt": weights(70_000)}


class SealedRepository:
    """A repository with a sealed model; `places` are where nothing plain may be, `said` is all output."""

    def __init__(self, command: CommandLine, cache: Path) -> None:
        self.command = command
        self.cache = cache
        self.said = ""
        self.places = [command.root / ".reconcile", command.root / "releases", cache]
        for path, data in FILES.items():
            command.write(f"weights/{path}", data)
        command.write("me.key", identity().text)

    def write(self, target: str, **seal: str) -> None:
        policy = json.dumps({"recipients": [identity().recipient.text], **seal})
        versions = '{"1.0.0": {path: weights}}'
        index = f"schema: 1\nid: acme\nmodels:\n  m: {{license: MIT, seal: {policy}, versions: {versions}}}\n"
        self.command.write("releases/index.yaml", index)
        self.command.write("releases/targets.yaml", f"targets:\n  store: {target}\n")

    def run(self, *arguments: str | Path, code: int = 0) -> Done:
        done = self.command(*arguments)
        self.said += done.out + done.err
        assert done.code == code, done.err
        return done

    @property
    def root(self) -> str:
        return str(self.command("resolve", "m@1.0.0").out.strip())

    def leaves(self) -> list[str]:
        """Return the CIDs of leaves of the big file."""
        record = json.loads((self.command.root / "releases/records/m/1.0.0.json").read_text())
        return [file["cid"] for file in record["contents"] if file["size"] < MIB]

    def check_fetched(self, *arguments: str | Path) -> None:
        """Fetch the version, compare it with what was published, and let `age` open the ciphertext."""
        place = self.command.root / "fetched"
        self.run("fetch", "m@1.0.0", place, "--identity", "me.key", *arguments)
        for path, data in FILES.items():
            assert (place / path).read_bytes() == data
        subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=place, check=True)
        ciphertext = self.command.root / "ciphertext"
        self.run("fetch", "m@1.0.0", ciphertext, "--sealed", *arguments)
        self.places.append(ciphertext)
        wrapped = self.command.root / "releases/sealed/m/1.age"
        opened = ["age", "-d", "-i", self.command.root / "me.key", wrapped]
        key = subprocess.run(opened, check=True, capture_output=True).stdout
        for path, data in FILES.items():
            command = ["age", "-d", "-i", "-", ciphertext / f"{path}.age"]
            assert subprocess.run(command, input=key, check=True, capture_output=True).stdout == data
        subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=ciphertext, check=True)

    def check_nothing_leaked(self) -> None:
        """Search every place byte by byte for parts of the plain files and for private keys."""
        (wrapped,) = load_wrapped_keys(self.command.root / "releases/index.yaml", "m")
        key = unlock(wrapped, [identity()]).identity
        secrets = [SECRET, b"SecretForCausalLM"]
        secrets += [data[at : at + 24] for data in FILES.values() for at in range(0, len(data) - 24, 16_384)]
        for each in (identity(), key):
            secrets += [
                each.scalar,
                each.text.encode(),
                each.text.lower().encode(),
                each.scalar.hex().encode(),
            ]
        secrets += [key.recipient.text.encode(), key.public]
        searched = 0
        for place in self.places:
            for path in place.rglob("*"):
                if path.is_file() and not path.is_symlink():
                    data = path.read_bytes()
                    searched += len(data)
                    found = [secret for secret in secrets if secret in data]
                    assert not found, path
        assert searched > 2 * MIB
        assert not any(secret in self.said.encode() for secret in secrets)


@pytest.fixture
def sealed(
    empty: CommandLine, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[SealedRepository]:
    cache, temporary = tmp_path_factory.mktemp("cache"), tmp_path_factory.mktemp("temporary")
    monkeypatch.setenv("RECONCILE_CACHE", str(cache))
    monkeypatch.setenv("RECONCILE_IDENTITY", identity().text)
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setattr(tempfile, "tempdir", None)
    repository = SealedRepository(empty, cache)
    repository.places.append(temporary)
    yield repository
    monkeypatch.setattr(tempfile, "tempdir", None)


def loop(sealed: SealedRepository, damage: Callable[[], None], *sources: str | Path) -> None:
    sealed.run("seal", "m")
    sealed.run("--json")
    sealed.run("--json")
    damage()
    report = sealed.run("--check", "full", "--json").document
    assert [item["state"] for item in report["items"]] == ["applied"], report["items"]
    assert sealed.run("status", "--check", "full", "--json").document["summary"]["held"] == 1
    sealed.check_fetched(*sources)
    sealed.check_nothing_leaked()


@pytest.mark.age_cli
@pytest.mark.parametrize("names", ["plain", "sealed"])
def test_on_a_store_and_as_pieces(
    sealed: SealedRepository, names: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sealed.write("{kind: store, path: .reconcile/store}", names=names)

    def damage() -> None:
        (car,) = sealed.command.cars()
        harm(car, car.stat().st_size // 2, b"damage")

    if names == "sealed":
        sealed.run("seal", "m")
        sealed.run("--json")
        damage()
        sealed.run("--check", "full", "--json")
        sealed.run("fetch", "m@1.0.0", "fetched", "--identity", "me.key")
        assert (sealed.command.root / "fetched/tokenizer/merges.txt").read_bytes() == FILES[
            "tokenizer/merges.txt"
        ]
        sealed.check_nothing_leaked()
        return
    loop(sealed, damage)
    pieces = sealed.run("pieces", "m@1.0.0", "--json", "--max-piece", str(MIB + 4096)).document
    assert len(pieces) > 1
    sealed.run("export", "m@1.0.0", "m.car")
    (whole,) = sealed.run("pieces", "m.car", "--json").document
    assert whole["size"] > 2 * MIB
    sealed.run("import", "m.car", "--store", "other")
    sealed.run("fetch", sealed.root, "again", "--store", "other", "--identity", "me.key")
    assert (sealed.command.root / "again/config.json").read_bytes() == SECRET
    index = sealed.command.root / "releases/index.yaml"
    reconciler.fetch("m@1.0.0", sealed.command.root / "api", index=index, identity="me.key", cache=False)
    monkeypatch.setenv("RECONCILE_INDEX", str(index))
    assert storage_initializer.run(["model://m@1.0.0", str(sealed.command.root / "container")]) == 0
    for place in ("api", "container"):
        assert (sealed.command.root / place / "config.json").read_bytes() == SECRET
    sealed.places += [sealed.command.root / "other"]
    sealed.check_nothing_leaked()


def remove_block(node: KuboNode, cid: str) -> None:
    node.block_file(parse(cid)).unlink()


@pytest.mark.slow
@pytest.mark.ipfs
@pytest.mark.age_cli
def test_on_a_real_kubo(sealed: SealedRepository, tmp_path: Path) -> None:
    with kubo_node(tmp_path / "kubo") as node:
        sealed.write(f'{{kind: kubo, api: "{node.url}"}}')
        loop(sealed, lambda: remove_block(node, sealed.leaves()[0]), "--kubo", node.url)
        sealed.places.append(node.home)
        sealed.check_nothing_leaked()


@pytest.mark.slow
@pytest.mark.ipfs_cluster
@pytest.mark.age_cli
def test_on_a_real_cluster(sealed: SealedRepository, tmp_path: Path) -> None:
    with cluster(tmp_path / "peers") as (peer,):
        nodes = f'nodes: [{{api: "{peer.node.url}"}}]'
        sealed.write(f'{{kind: ipfs-cluster, api: "{peer.rest}", {nodes}}}')
        loop(sealed, lambda: remove_block(peer.node, sealed.leaves()[0]), "--kubo", peer.node.url)
        sealed.places.append(peer.home)
        sealed.check_nothing_leaked()
