"""From the publication to the chain and back: a fresh clone verifies a range of bytes from the block on."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.test_audit_commands import AuditedRepository
from tests.support.anvil_node import CHAIN_ID, KEY, SENDER, anvil_node
from tests.support.command_line import CommandLine

pytestmark = pytest.mark.anvil


@pytest.fixture
def chain() -> Iterator[str]:
    with anvil_node() as url:
        yield url


def on_chain(repository: AuditedRepository, url: str) -> None:
    """Add the chain to targets.yaml."""
    file = repository.root / "releases/targets.yaml"
    line = f'anchor: {{chain: {CHAIN_ID}, rpc: "{url}", key_env: ANCHOR_KEY, sender: "{SENDER}"}}\n'
    file.write_text(file.read_text() + line)


def test_publish_log_checkpoint_anchor_and_a_fresh_clone_verifies_from_the_chain_to_a_range_of_bytes(
    reconcile: CommandLine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, chain: str
) -> None:
    repository = AuditedRepository(reconcile, monkeypatch)
    monkeypatch.setenv("ANCHOR_KEY", KEY)
    repository.start()
    on_chain(repository, chain)
    repository.release()  # publish and log
    document = repository.sign()  # checkpoint and anchor
    assert "anchors/2.json" in document["files"]
    again = reconcile("audit", "checkpoint", "--json").document
    assert again["files"] == []
    anchor = json.loads((repository.log / "anchors/2.json").read_text())
    assert (anchor["sender"], anchor["nonce"]) == (SENDER, 0)
    monkeypatch.delenv("ANCHOR_KEY")
    monkeypatch.delenv("LOG_KEY")

    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", f"file://{repository.root}", clone], check=True)
    # from the block to the log
    (found,) = reconcile("audit", "--chain", "--json", "-C", clone).document["anchors"]
    assert (found["size"], found["transaction"], found["chain"]) == (2, anchor["transaction"], CHAIN_ID)
    assert "checkpoint 2 is on the chain 31337 since" in reconcile("audit", "--chain", "-C", clone).out
    # from the log to the CID
    proof = tmp_path / "it.proof"
    proof.write_text(reconcile("audit", "prove", "llm@1.0.0", "-C", clone).out)
    leaf = reconcile("audit", "verify", proof, "--json", "-C", clone).document["leaf"]
    # from the CID to the files, and to each byte of them
    store = repository.root / ".reconcile/store"
    fetched = tmp_path / "fetched"
    done = reconcile("fetch", leaf["cid"], fetched, "--store", store, cwd=clone)
    assert (done.code, "every block verified" in done.err) == (0, True)
    weights = fetched / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[100] ^= 1
    weights.write_bytes(data)
    shutil.copytree(store, clone / ".reconcile/store")  # for the hashes of the leaves
    done = reconcile("verify", fetched, "--as", "llm@1.0.0", "-C", clone)
    assert done.code == 1
    assert "the first at byte 0" in done.out  # the leaf of 1 MiB that has the byte 100


def test_an_anchor_that_was_lost_is_found_and_not_paid_twice(
    reconcile: CommandLine, monkeypatch: pytest.MonkeyPatch, chain: str
) -> None:
    repository = AuditedRepository(reconcile, monkeypatch)
    monkeypatch.setenv("ANCHOR_KEY", KEY)
    repository.start()
    repository.release()
    on_chain(repository, chain)
    assert reconcile("audit", "checkpoint").code == 0
    record = (repository.log / "anchors/2.json").read_bytes()
    (repository.log / "anchors/2.json").unlink()  # the run was killed before it was written
    assert reconcile("audit", "checkpoint").code == 0
    assert (repository.log / "anchors/2.json").read_bytes() == record
    (repository.log / "anchors/2.json").write_bytes(
        record.replace(b'"digest": "', b'"digest": "00')[:-3] + b"}\n"
    )
    assert reconcile("audit", "--chain").code == 1
    (repository.log / "anchors/2.json").write_bytes(record)
    repository.commit()
    file = repository.root / "releases/targets.yaml"
    file.write_text(file.read_text().replace(f"chain: {CHAIN_ID}", "chain: 1"))
    done = reconcile("audit", "--chain")
    assert (done.code, "is on the chain 31337, and anchor names 1" in done.err) == (2, True)


def test_an_artifact_is_anchored_and_verified_from_its_cid_alone(
    reconcile: CommandLine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, chain: str
) -> None:
    repository = AuditedRepository(reconcile, monkeypatch)
    monkeypatch.setenv("ANCHOR_KEY", KEY)
    repository.start()
    on_chain(repository, chain)
    output = reconcile.write("tasks/17/output.json", '{"text": "hi"}\n')
    done = reconcile("put", output, "--anchor", "--json")
    assert done.code == 0
    cid, transaction = done.document["cid"], done.document["anchor"]
    assert reconcile("put", output, "--anchor", "--json").document["anchor"] == transaction
    monkeypatch.delenv("ANCHOR_KEY")
    assert reconcile("audit", "verify", cid, "--json").document["transaction"] == transaction
    (repository.log / "anchors" / f"{cid}.json").unlink()
    assert reconcile("audit", "verify", cid).out.startswith(f"ok: {cid} is on the chain {CHAIN_ID} since ")
    other = reconcile("identify", "--bare", reconcile.write("x", "y"), "--json").document["root"]
    done = reconcile("audit", "verify", other)
    assert (done.code, "has not anchored" in done.err) == (4, True)


def test_without_a_chain_nothing_is_anchored(reconcile: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    repository = AuditedRepository(reconcile, monkeypatch)
    repository.start()
    for arguments in (["audit", "--chain"], ["put", reconcile.write("x", "y"), "--anchor"]):
        done = reconcile(*arguments)
        assert (done.code, "names no chain for anchors" in done.err) == (2, True)
