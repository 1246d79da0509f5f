"""One change for each link from the key of the log to the block on the chain, and what refuses it.

The order is that of the chain: the key, the checkpoint, its witnesses, the tiles, the entry, its file, the
record of the anchor, the transaction in it, and what the chain says. A link that nothing refuses would be a
hole.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest

from reconciler.deals.onchain.keys import open_key, read_transaction
from reconciler.errors import ReconcilerError
from reconciler.loop.anchoring import _check_raw
from reconciler.net.auth import Secret
from reconciler.trust.anchor import (
    AnchorKind,
    AnchorRecord,
    SeenTransaction,
    anchor_data,
    checkpoint_digest,
    judge_anchor,
)
from reconciler.trust.checkpoint import (
    LogKeys,
    checkpoint_text,
    parse_checkpoint,
    parse_proof,
    verify_checkpoint,
    verify_proof,
)
from reconciler.trust.leaves import LeafEvent, LogLeaf, parse_leaf, parse_leaf_file
from reconciler.trust.log import check_chains, parse_entries, prove_entry, read_log, recompute
from reconciler.trust.note import NoteSigner, SignedNote
from reconciler.trust.tiles import make_tiles
from tests.support.anvil_node import CHAIN_ID, KEY
from tests.support.witness_peer import WitnessPeer

CID = "bafybeie7egduoa3ccp7w4id2usaobz6x6icpblykbti5dj2wenmqwe27pe"
LOG = NoteSigner("example.org/acme", Secret("5e" * 32))
WITNESS = WitnessPeer("witness.example/w", [LOG.key])
LEAVES = [LogLeaf("acme", "llm", f"1.{n}.0", 1, LeafEvent.RELEASE, CID, "ab" * 32) for n in range(5)]


@dataclass
class Chain:
    """Everything that a reader of the log gets; the reader knows `keys` and the file of the leaf."""

    keys: LogKeys = field(default_factory=lambda: LogKeys(LOG.key, (WITNESS.key,), 1))
    files: dict[str, bytes] = field(default_factory=dict)
    leaf: bytes = b""
    proof: bytes = b""
    record: AnchorRecord | None = None
    seen: SeenTransaction | None = None

    def verify(self) -> None:
        """Go from the key to the chain, as `audit`, `audit verify` and `audit --chain` do."""
        checkpoint = verify_checkpoint(self.files["checkpoint"], self.keys)
        log = read_log(checkpoint.size, self.files.get)
        log.check(checkpoint, "the checkpoint")
        check_chains(parse_entries(log.entries, "acme"))
        leaf = parse_leaf_file(self.leaf, LEAVES[2].path)
        assert leaf.entry() in log.entries, "the file of the leaf"
        proof = parse_proof(self.proof)
        verify_proof(proof, proof.extra, self.keys)
        assert parse_leaf(proof.extra, "it") == leaf, "the entry of the proof"
        assert self.record is not None
        _check_raw(self.record)
        assert self.record.digest == checkpoint_digest(checkpoint.note.text), "the digest of the anchor"
        judge_anchor(self.record, self.seen, "the node")


@pytest.fixture(scope="module")
def whole() -> Chain:
    chain = Chain()
    log = recompute([leaf.entry() for leaf in LEAVES])
    text = checkpoint_text(LOG.key.name, log.size, (log.roots or {})[log.size])
    note = SignedNote(text, (LOG.sign(text), WITNESS.cosign(text)))
    chain.files = {**make_tiles(log.entries, log.hashes), "checkpoint": note.encode()}
    chain.leaf = LEAVES[2].file()
    checkpoint = parse_checkpoint(note.encode())
    chain.proof = prove_entry(2, checkpoint, LEAVES[2].entry(), chain.files.get).encode()
    key = open_key(Secret(KEY), "it")
    digest = checkpoint_digest(text)
    raw, _ = key.sign_transaction(
        {
            "type": 2,
            "chainId": CHAIN_ID,
            "nonce": 0,
            "gas": 30_000,
            "to": "0x90F79bf6EB2c4f870365E785982E1f101E93b906",
            "value": 0,
            "data": anchor_data(AnchorKind.CHECKPOINT, digest),
            "maxFeePerGas": 1,
            "maxPriorityFeePerGas": 1,
        }
    )
    name, sender, block = read_transaction(raw).hash, str(key.address), "0x" + "22" * 32
    chain.record = AnchorRecord(5, digest, CHAIN_ID, name, sender, 0, 9, block, f"0x{raw.hex()}")
    chain.seen = SeenTransaction(
        sender, sender, chain.record.data, True, 9, block, block, True, 1796022000, True
    )
    return chain


def test_the_whole_chain_is_accepted(whole: Chain) -> None:
    whole.verify()


def edited(chain: Chain, path: str, old: bytes, new: bytes) -> Chain:
    assert old in chain.files[path]
    return replace(chain, files={**chain.files, path: chain.files[path].replace(old, new)})


def resigned(chain: Chain, signer: NoteSigner) -> Chain:
    text = parse_checkpoint(chain.files["checkpoint"]).note.text
    note = SignedNote(text, (signer.sign(text), WITNESS.cosign(text)))
    return replace(chain, files={**chain.files, "checkpoint": note.encode()})


def rewritten(chain: Chain) -> Chain:
    """Replace an entry and all tiles consistently; only the checkpoint knows better."""
    log = recompute([leaf.entry().replace(b"1.4.0", b"1.9.0") for leaf in LEAVES])
    return replace(
        chain, files={**make_tiles(log.entries, log.hashes), "checkpoint": chain.files["checkpoint"]}
    )


def without(chain: Chain, path: str) -> Chain:
    return replace(chain, files={name: data for name, data in chain.files.items() if name != path})


def recorded(chain: Chain, **fields: object) -> Chain:
    assert chain.record is not None
    return replace(chain, record=replace(chain.record, **fields))


def said(chain: Chain, **fields: object) -> Chain:
    assert chain.seen is not None
    return replace(chain, seen=replace(chain.seen, **fields))


STRANGER = NoteSigner("example.org/acme", Secret("5f" * 32))
ENTRIES = "tile/entries/000.p/5"
LINKS: dict[str, tuple[Callable[[Chain], Chain], str]] = {
    "key of the log": (lambda c: replace(c, keys=LogKeys(STRANGER.key)), "is not signed by the key"),
    "signer of the checkpoint": (lambda c: resigned(c, STRANGER), "is not signed by the key"),
    "signature of the checkpoint": (
        lambda c: edited(c, "checkpoint", b"example.org/acme\n5\n", b"example.org/acme\n4\n"),
        "was altered after it was signed",
    ),
    "name of the log": (
        lambda c: edited(c, "checkpoint", b"example.org/acme\n5\n", b"other\n5\n"),
        "is of the log",
    ),
    "key of the witness": (
        lambda c: replace(c, keys=LogKeys(LOG.key, (replace(WITNESS.key, name="another"),), 1)),
        "cosignatures of 0 of 1 witnesses",
    ),
    "cosignature": (
        lambda c: edited(c, "checkpoint", b"witness.example/w ", b"witness.example/v "),
        "cosignatures of 0 of 1 witnesses",
    ),
    "tile of hashes": (lambda c: without(c, "tile/0/000.p/5"), "the log has no tile/0/000.p/5"),
    "hash in a tile": (
        lambda c: replace(c, files={**c.files, "tile/0/000.p/5": c.files["tile/0/000.p/5"][::-1]}),
        "does not follow from its entries",
    ),
    "tile of entries": (lambda c: without(c, ENTRIES), "the log has no tile/entries"),
    "entry": (lambda c: edited(c, ENTRIES, b"1.4.0", b"1.9.0"), "does not follow from its entries"),
    "history": (rewritten, "its history was rewritten"),
    "file of the leaf": (
        lambda c: replace(c, leaf=c.leaf.replace(b'"version":"1.2.0"', b'"version":"1.3.0"')),
        "has the leaf of",
    ),
    "index of the proof": (
        lambda c: replace(c, proof=c.proof.replace(b"index 2", b"index 3")),
        "does not lead",
    ),
    "entry of the proof": (
        lambda c: replace(c, proof=c.proof.replace(c.proof[30:40], c.proof[30:34] + b"AAAAAA")),
        "is not a leaf|does not lead|not base64",
    ),
    "digest in the record": (lambda c: recorded(c, digest=b"x" * 32), "is not the anchor of this digest"),
    "sender in the record": (
        lambda c: recorded(c, sender="0x" + "cd" * 20),
        "is not the anchor of this digest",
    ),
    "transaction in the record": (lambda c: recorded(c, transaction="0x" + "11" * 32), "is not the anchor"),
    "data on the chain": (lambda c: said(c, data=b"x"), "does not anchor this digest"),
    "outcome on the chain": (lambda c: said(c, succeeded=False), "was reverted"),
    "block on the chain": (lambda c: said(c, chain_block="0x" + "33" * 32), "was reorganised away"),
    "list of the block": (lambda c: said(c, listed=False), "was reorganised away"),
    "height": (lambda c: said(c, block=10), "the chain was reorganised"),
    "transaction on the chain": (lambda c: replace(c, seen=None), "is not on the chain"),
}


@pytest.mark.parametrize("link", LINKS)
def test_a_changed_link_is_refused(whole: Chain, link: str) -> None:
    change, refusal = LINKS[link]
    with pytest.raises(ReconcilerError, match=refusal):
        change(whole).verify()
