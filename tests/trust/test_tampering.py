"""One change for each link of the chain from a key to a byte, and what refuses it.

The order is that of the chain: whom the consumer accepts, what that signer signed, what the index says, what
the bytes are. A link that nothing refuses would be a hole.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

import reconciler
from reconciler.consume.open import Sources
from reconciler.consume.verify import compare_directory, tree_from_stores
from reconciler.errors import ReconcilerError
from reconciler.progress import QUIET
from tests.support.signing import private_pem, public_key, signer
from tests.support.trusted import WEIGHTS, SignedRepository, signed_repository

REF = "acme/llm@1.0.0"


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SignedRepository:
    return signed_repository(tmp_path, monkeypatch)


def fetch(repository: SignedRepository, destination: Path) -> None:
    sources = Sources(stores=[repository.store])
    index = repository.releases.index_file
    reconciler.fetch(REF, destination, index=index, sources=sources, cache=False)


def edit_json(path: Path, change: Callable[[dict[str, dict[str, object]]], object]) -> None:
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def release_file(repository: SignedRepository, version: str = "1.0.0", number: int = 0) -> Path:
    return repository.signatures(version, number) / "release.sigstore.json"


def edit_index(repository: SignedRepository, old: str, new: str) -> None:
    path = repository.releases.index_file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def other_key_in_the_configuration(repository: SignedRepository) -> None:
    (repository.config.parent / "0.pem").write_bytes(public_key(1).pem)


def private_key_in_the_configuration(repository: SignedRepository) -> None:
    (repository.config.parent / "0.pem").write_bytes(private_pem(0))


def cut_configuration(repository: SignedRepository) -> None:
    repository.config.write_text(repository.config.read_text()[:-10])


def foreign_signature(repository: SignedRepository) -> None:
    bundle = json.loads(release_file(repository).read_text())
    payload = base64.b64decode(bundle["dsseEnvelope"]["payload"])
    release_file(repository).write_bytes(signer(1).sign(payload).bundle)


def altered_payload(repository: SignedRepository) -> None:
    def change(document: dict[str, dict[str, object]]) -> None:
        payload = base64.b64decode(str(document["dsseEnvelope"]["payload"]))
        altered = payload.replace(b'"size":', b'"size":1')
        document["dsseEnvelope"]["payload"] = base64.b64encode(altered).decode()

    edit_json(release_file(repository), change)


def replayed_version(repository: SignedRepository) -> None:
    shutil.copy(release_file(repository, "1.1.0"), release_file(repository, "1.0.0"))


def statement_for_other_tools(repository: SignedRepository) -> None:
    """The Model Signing bundle of the same signer names no CID, so it is not a release statement."""
    shutil.copy(repository.signatures() / "oms.sigstore.json", release_file(repository))


def no_signature(repository: SignedRepository) -> None:
    release_file(repository).unlink()


def truncated_signature(repository: SignedRepository) -> None:
    data = release_file(repository).read_bytes()
    release_file(repository).write_bytes(data[: len(data) // 2])


def linked_signature(repository: SignedRepository) -> None:
    place = release_file(repository)
    place.rename(place.with_name("elsewhere"))
    place.symlink_to(place.with_name("elsewhere"))


def piped_signature(repository: SignedRepository) -> None:
    place = release_file(repository)
    place.unlink()
    os.mkfifo(place)


def other_cid_in_the_index(repository: SignedRepository) -> None:
    """What a compromised host of the index would do, with its own record."""
    ours, theirs = (str(repository.releases.cid(ref)) for ref in (REF, "acme/llm@1.1.0"))
    records = repository.releases.root / "releases/records"
    shutil.rmtree(records)
    edit_index(repository, ours, theirs)


def other_index(repository: SignedRepository) -> None:
    edit_index(repository, '"id": "acme"', '"id": "evil"')


def renamed_version(repository: SignedRepository) -> None:
    """A newer version under the number of the older one."""
    edit_index(repository, '"1.0.0"', '"9.9.9"')
    edit_index(repository, '"1.1.0"', '"1.0.0"')
    shutil.rmtree(repository.releases.root / "releases/records")


def other_record(repository: SignedRepository) -> None:
    records = repository.releases.root / "releases/records/acme/llm"
    shutil.copy(records / "1.1.0.json", records / "1.0.0.json")


def block(repository: SignedRepository, position: int) -> bytes:
    """Return the block at a position of the version's DAG: 0 is the root, negative ones are leaves."""
    with repository.releases.running() as run:
        dag = run.workspace.targets["store"].dag(repository.releases.cid(REF))
        return dag.read(position % len(dag.layout))


def alter(repository: SignedRepository, data: bytes) -> None:
    """Change one byte of a block in the store."""
    car = repository.store / "cars" / f"{repository.releases.cid(REF)}.car"
    content = bytearray(car.read_bytes())
    content[content.index(data) + len(data) // 2] ^= 1
    car.write_bytes(content)


def altered_root(repository: SignedRepository) -> None:
    alter(repository, block(repository, 0))


def altered_inner_node(repository: SignedRepository) -> None:
    root = repository.releases.cid(REF)
    with repository.releases.running() as run:
        dag = run.workspace.targets["store"].dag(root)
        inner = [
            data
            for position in range(len(dag.layout))
            if dag.layout.cid(position).codec == root.codec and (data := dag.read(position))
        ]
    alter(repository, inner[1])


def altered_leaf(repository: SignedRepository) -> None:
    alter(repository, WEIGHTS[1 << 20 : 2 << 20])


@dataclass(frozen=True)
class Link:
    """What is changed, and the error that refuses it: its class and a part of its message."""

    change: Callable[[SignedRepository], None]
    error: str
    message: str


LINKS = {
    "key": Link(other_key_in_the_configuration, "TrustError", "is not one of key"),
    "key file": Link(private_key_in_the_configuration, "UsageError", "is a private key"),
    "configuration": Link(cut_configuration, "InvalidIndexError", r"not YAML|expected|malformed"),
    "signature": Link(foreign_signature, "TrustError", "is not one of key"),
    "signed bytes": Link(altered_payload, "TrustError", "is not one of key"),
    "version of the statement": Link(replayed_version, "TrustError", "is for 'acme/llm@1.1.0'"),
    "kind of the statement": Link(statement_for_other_tools, "TrustError", "has the type"),
    "presence of a signature": Link(no_signature, "TrustError", "is not signed"),
    "whole of a signature": Link(truncated_signature, "TrustError", "is not JSON"),
    "place of a signature": Link(linked_signature, "TrustError", "no accepted signer"),
    "kind of file of a signature": Link(piped_signature, "TrustError", "no accepted signer"),
    "CID in the index": Link(other_cid_in_the_index, "TrustError", "the signature is for bafy"),
    "identity of the index": Link(other_index, "TrustError", "is for index 'acme', not 'evil'"),
    "number of the version": Link(renamed_version, "TrustError", "the signature is for bafy"),
    "root block": Link(altered_root, "BlockUnavailableError", "bafybei"),
    "inner node": Link(altered_inner_node, "BlockUnavailableError", "bafybei"),
    "leaf": Link(altered_leaf, "BlockUnavailableError", "bafkrei"),
}


@pytest.mark.parametrize("name", LINKS)
def test_a_change_of_a_link_is_refused_and_writes_nothing(
    repository: SignedRepository, tmp_path: Path, name: str
) -> None:
    link = LINKS[name]
    link.change(repository)
    with pytest.raises(ReconcilerError, match=link.message) as raised:
        fetch(repository, tmp_path / "out")
    assert type(raised.value).__name__ == link.error
    assert not (tmp_path / "out").exists()


def test_the_chain_without_a_change_reaches_the_bytes(repository: SignedRepository, tmp_path: Path) -> None:
    fetch(repository, tmp_path / "out")
    assert (tmp_path / "out/model.bin").read_bytes() == WEIGHTS


def test_a_record_of_another_version_is_refused_where_records_are_read(
    repository: SignedRepository,
) -> None:
    other_record(repository)
    with pytest.raises(ReconcilerError, match=r"the record is of acme/llm@1\.1\.0"):
        repository.sign(1)


def test_a_byte_that_changes_after_the_fetch_is_found_with_its_offset(
    repository: SignedRepository, tmp_path: Path
) -> None:
    fetch(repository, tmp_path / "out")
    place = tmp_path / "out/model.bin"
    place.chmod(0o644)
    data = bytearray(place.read_bytes())
    data[(2 << 20) + 5] ^= 1
    place.write_bytes(data)
    with repository.releases.running() as run:
        version = run.workspace.index.models["acme/llm"].versions["1.0.0"]
        assert version.cid is not None
        tree = tree_from_stores(run.workspace.targets.values(), version.cid)
        records = repository.releases.root / "releases/records"
        found = compare_directory(tmp_path / "out", version, tree, records, QUIET)
    assert [(each.path, each.offsets) for each in found.differences] == [("model.bin", (2 << 20,))]
