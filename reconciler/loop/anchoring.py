"""Anchors of checkpoints and artifacts on a chain: looked for, made, and checked from the block to the log.

Nothing is signed before the chain was asked whether the digest is there already: every transaction of the
sender that no record of the repository explains is found by its nonce and compared. A node's answer is a
claim; where several are configured, all must agree, and the signed transaction in the record is verified
without them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from reconciler.content import cid as cids
from reconciler.content.cid import Cid
from reconciler.deals.json_rpc import JsonRpc, RpcRefusedError, open_json_rpc
from reconciler.deals.onchain.keys import SigningKey, load_key, read_transaction
from reconciler.deals.onchain.nodes import hex_bytes, quantity
from reconciler.deals.onchain.wallet import UnsentCall, Wallet
from reconciler.errors import DataError, PeerError, SafetyError, TrustError, UsageError
from reconciler.index.log_settings import AnchorSettings
from reconciler.json_fields import JsonFields
from reconciler.loop.audit_log import RepositoryLog
from reconciler.loop.log_leaves import log_reader, write_log_files
from reconciler.loop.log_sequence import NextCheckpoint
from reconciler.net.auth import from_env
from reconciler.net.errors import UnexpectedResponseError
from reconciler.trust.anchor import (
    ANCHORS,
    MAX_ANCHOR,
    AnchoredAt,
    AnchorKind,
    AnchorRecord,
    NotAnchoredError,
    SeenTransaction,
    anchor_data,
    artifact_digest,
    checkpoint_digest,
    judge_anchor,
    parse_anchor,
)
from reconciler.trust.checkpoint import checkpoint_text
from reconciler.trust.merkle import tree_root

MOST_UNKNOWN = 64  #: transactions of the sender without a record that are looked at
_GWEI = 10**9


@dataclass(frozen=True, slots=True)
class AnchorWish:
    """A digest to anchor; `subject` is as in AnchorRecord."""

    subject: int | str
    digest: bytes

    @property
    def data(self) -> bytes:
        """The data of the transaction."""
        kind = AnchorKind.CHECKPOINT if isinstance(self.subject, int) else AnchorKind.ARTIFACT
        return anchor_data(kind, self.digest)


def read_anchors(directory: Path) -> list[AnchorRecord]:
    """Return the anchors that the log in `directory` records. Raises DataError, InvalidIndexError."""
    read, found = log_reader(directory, MAX_ANCHOR), []
    for file in sorted((directory / ANCHORS).glob("*.json")):
        path = f"{ANCHORS}/{file.name}"
        if (data := read(path)) is not None:
            found.append(parse_anchor(data, path))
    return found


class AnchorChain:
    """The chain that `anchor:` in targets.yaml names. Errors name its nodes."""

    def __init__(
        self,
        settings: AnchorSettings,
        environ: Mapping[str, str],
        *,
        poll: float = 2.0,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._settings = settings
        self._environ = environ
        self._poll = poll
        self._pause = pause
        token = from_env(settings.rpc_token_env, environ) if settings.rpc_token_env else None
        several = len(settings.rpc) > 1
        self._nodes = [
            open_json_rpc(
                address,
                name="the RPC of the anchor" + (f" ({number} of {len(settings.rpc)})" if several else ""),
                token=token,
            )
            for number, address in enumerate(settings.rpc, start=1)
        ]
        self._on_chain: set[str] = set()

    def close(self) -> None:
        """Close connections."""
        for node in self._nodes:
            node.close()

    def check(self, record: AnchorRecord) -> AnchoredAt:
        """Return since when `record` is on the chain; final if all nodes say so.

        Raises TrustError when it is not there or is something else, and RequestError when a node cannot be
        asked.
        """
        if record.chain != self._settings.chain:
            raise UsageError(
                f"{record.path} is on the chain {record.chain}, and anchor names {self._settings.chain}",
                hint="set chain and rpc to those of the record",
            )
        if record.raw:
            _check_raw(record)
        found = [judge_anchor(record, self._seen(node, record), node.name) for node in self._nodes]
        final = [each.final for each in found if each.final is not None]
        return AnchoredAt(
            record, max(each.time for each in found), all(final) if len(final) == len(found) else None
        )

    def find(self, wish: AnchorWish, sender: str, known: Collection[AnchorRecord]) -> AnchorRecord | None:
        """Return the anchor of a digest that `sender` made, None when there is none.

        `known` are records, whose transactions need not be looked at. Raises PeerError when a node no longer
        knows older blocks, so that it cannot be said.
        """
        node = self._first()
        count = quantity(node.call("eth_getTransactionCount", (sender, "latest")))
        head = quantity(node.call("eth_blockNumber"))
        place = (sender, self._settings.chain)
        explained = {each.nonce for each in known if (each.sender, each.chain) == place}
        unknown = [nonce for nonce in range(count - 1, -1, -1) if nonce not in explained]
        for nonce in unknown[:MOST_UNKNOWN]:
            head = _block_of(node, sender, nonce, head)
            block = node.call("eth_getBlockByNumber", (hex(head), True), limit=64 << 20)
            for each in block.items("transactions"):
                ours = each.text("from").lower() == sender and quantity(each, "nonce") == nonce
                if ours and hex_bytes(each.at("input")) == wish.data:
                    return self._record(wish, sender, nonce, each.text("hash").lower(), node)
        return None

    def anchor(self, wish: AnchorWish, known: Collection[AnchorRecord]) -> AnchorRecord:
        """Anchor a digest unless it is on the chain already; return where it is.

        Raises UsageError without a key, SafetyError above the largest fee, TransactionError, RequestError.
        """
        key = load_key(self._settings.key_env, self._environ)
        sender = str(key.address)
        if self._settings.sender and self._settings.sender != sender:
            raise UsageError(
                f"{self._settings.key_env} has the key of {sender}, and `sender` is {self._settings.sender}",
                hint="correct `sender` of anchor, or the variable",
            )
        there = next((each for each in known if self._is_about(each, wish)), None)
        if there is not None:
            try:
                return self.check(there).record
            except NotAnchoredError:
                pass  # reorganised away: it is looked for, and sent again if it is in no block
        others = [each for each in known if each is not there]
        found = self.find(wish, sender, others)
        if found is not None:
            return found
        node = self._first()
        call = UnsentCall("the anchor", key.address, wish.data)
        self._check_fee(node, key, call)
        wallet = Wallet(node, self._settings.chain, key, coin="its coin", poll=self._poll, pause=self._pause)
        sent = wallet.send(call)
        receipt = wallet.wait(sent)
        return self._record(wish, sender, sent.nonce, receipt.hash.lower(), node)

    def _is_about(self, record: AnchorRecord, wish: AnchorWish) -> bool:
        return (record.chain, record.data) == (self._settings.chain, wish.data)

    def _check_fee(self, node: JsonRpc, key: SigningKey, call: UnsentCall) -> None:
        """Raise SafetyError when the transaction may cost more than `max_fee`."""
        if self._settings.max_fee is None:
            return
        described = {"from": str(key.address), "to": str(call.to), "data": f"0x{call.data.hex()}"}
        gas = quantity(node.call("eth_estimateGas", (described,))) * 5 // 4
        base = quantity(node.call("eth_getBlockByNumber", ("latest", False)), "baseFeePerGas")
        most = gas * (2 * base + quantity(node.call("eth_maxPriorityFeePerGas")))
        if most > self._settings.max_fee * _GWEI:
            raise SafetyError(
                f"the anchor may cost {-(-most // _GWEI):,} gwei, and max_fee is {self._settings.max_fee:,}",
                hint="run again when gas is cheaper, or raise max_fee of anchor in targets.yaml",
            )

    def _record(
        self, wish: AnchorWish, sender: str, nonce: int, transaction: str, node: JsonRpc
    ) -> AnchorRecord:
        receipt = node.call("eth_getTransactionReceipt", (transaction,))
        raw = ""
        with suppress(RpcRefusedError, UnexpectedResponseError):  # not every node has this method
            raw = f"0x{hex_bytes(node.call('eth_getRawTransactionByHash', (transaction,))).hex()}"
        return AnchorRecord(
            wish.subject,
            wish.digest,
            self._settings.chain,
            transaction,
            sender,
            nonce,
            quantity(receipt, "blockNumber"),
            receipt.text("blockHash").lower(),
            raw if len(raw) > 2 else "",
        )

    def _first(self) -> JsonRpc:
        self._require_chain(self._nodes[0])
        return self._nodes[0]

    def _require_chain(self, node: JsonRpc) -> None:
        if node.name in self._on_chain:
            return
        found = quantity(node.call("eth_chainId"))
        if found != self._settings.chain:
            raise UnexpectedResponseError(
                node.name,
                f"is on the chain {found}, not on {self._settings.chain}",
                hint="set chain and rpc of anchor in targets.yaml to the same chain",
            )
        self._on_chain.add(node.name)

    def _seen(self, node: JsonRpc, record: AnchorRecord) -> SeenTransaction | None:
        self._require_chain(node)
        receipt = node.call("eth_getTransactionReceipt", (record.transaction,))
        found = node.call("eth_getTransactionByHash", (record.transaction,))
        for answer in (receipt, found):
            if not answer.has() or "blockNumber" not in answer.mapping() or not answer.has("blockNumber"):
                return None
        number = quantity(receipt, "blockNumber")
        block = node.call("eth_getBlockByNumber", (hex(number), False), limit=64 << 20)
        if not block.has():
            return None
        return SeenTransaction(
            found.text("from").lower(),
            found.text_or("", "to").lower(),
            hex_bytes(found.at("input")),
            quantity(receipt, "status") == 1,
            number,
            receipt.text("blockHash").lower(),
            block.text("hash").lower(),
            record.transaction in {each.text().lower() for each in block.items("transactions")},
            quantity(block, "timestamp"),
            _is_final(node, number),
        )


def _check_raw(record: AnchorRecord) -> None:
    """Check that the signed transaction in `record` is the one it names, made by its sender for its digest.

    Raises TrustError.
    """
    try:
        signed = read_transaction(bytes.fromhex(record.raw[2:]))
    except DataError as error:
        raise TrustError(f"{record.path}: the transaction in it is {error.message}") from None
    if (
        signed.hash != record.transaction
        or (str(signed.sender), str(signed.to)) != (record.sender, record.sender)
        or (signed.chain_id, signed.nonce, signed.data) != (record.chain, record.nonce, record.data)
    ):
        raise TrustError(
            f"{record.path}: the signed transaction in it is not the anchor of this digest",
            hint="restore the file from the git history",
        )


def _is_final(node: JsonRpc, number: int) -> bool | None:
    try:
        block: JsonFields = node.call("eth_getBlockByNumber", ("finalized", False))
        return quantity(block, "number") >= number if block.has() else None
    except (RpcRefusedError, UnexpectedResponseError):
        return None


def _block_of(node: JsonRpc, sender: str, nonce: int, head: int) -> int:
    """Return the block, at most `head`, in which `sender` used `nonce`. Raises PeerError."""

    def used(block: int) -> bool:
        return quantity(node.call("eth_getTransactionCount", (sender, hex(block)))) > nonce

    step = 1  # first back in growing steps: the block is likely a recent one, and nodes forget old state
    try:
        while head >= step and used(head - step):
            head, step = head - step, step * 2
        low = max(0, head - step + 1)
        while low < head:
            middle = (low + head) // 2
            low, head = (low, middle) if used(middle) else (middle + 1, head)
    except RpcRefusedError as error:
        raise PeerError(
            f"{node.name}: cannot say what the transaction {nonce} of {sender} was: {error.reason}",
            hint="use a node that keeps older state, or an account that is used for nothing else",
        ) from None
    return head


# --- the log


def with_anchor(
    made: NextCheckpoint, directory: Path, settings: AnchorSettings, environ: Mapping[str, str]
) -> NextCheckpoint:
    """Anchor the checkpoint `made` of the log in `directory`; return it with the record among its files.

    Raises as `AnchorChain.anchor`.
    """
    wish = AnchorWish(made.checkpoint.size, checkpoint_digest(made.checkpoint.note.text))
    with closing(AnchorChain(settings, environ)) as chain:
        record = chain.anchor(wish, read_anchors(directory))
    return _with_record(made, record, directory)


def _with_record(made: NextCheckpoint, record: AnchorRecord, directory: Path) -> NextCheckpoint:
    data = record.render()
    if log_reader(directory, MAX_ANCHOR)(record.path) == data:
        return made
    return replace(made, files={record.path: data, **made.files})


def check_log_anchors(
    log: RepositoryLog, directory: Path, settings: AnchorSettings | None, environ: Mapping[str, str]
) -> list[AnchoredAt]:
    """Check every recorded anchor of a log, from the block to the root of its entries.

    Raises UsageError without a chain, TrustError for one that is not on the chain or about another log.
    """
    records = read_anchors(directory)
    for record in records:
        if record.digest != _expected_digest(record, log):
            raise TrustError(
                f"{record.path} anchors the digest {record.digest.hex()}, which is not that of "
                f"{record.subject}",
                hint="the record or the log was altered: restore them from the git history",
            )
    with closing(_open_chain(settings, environ)) as chain:
        return [chain.check(record) for record in records]


def _expected_digest(record: AnchorRecord, log: RepositoryLog) -> bytes | None:
    if isinstance(record.subject, str):
        return artifact_digest(cids.parse(record.subject))
    if record.subject > log.recomputed.size:
        return None
    root = tree_root(log.recomputed.hashes[: record.subject])
    return checkpoint_digest(checkpoint_text(log.keys.origin, record.subject, root))


# --- artifacts


def anchor_artifact(
    cid: Cid, directory: Path, settings: AnchorSettings | None, environ: Mapping[str, str]
) -> AnchorRecord:
    """Anchor an artifact, and write the record beside those of the log in `directory`.

    Raises UsageError without a chain, and as `AnchorChain.anchor`.
    """
    with closing(_open_chain(settings, environ)) as chain:
        record = chain.anchor(AnchorWish(str(cid), artifact_digest(cid)), read_anchors(directory))
    write_log_files(directory, {record.path: record.render()})
    return record


def check_artifact(
    cid: Cid, directory: Path, settings: AnchorSettings | None, environ: Mapping[str, str]
) -> AnchoredAt:
    """Return since when an artifact is on the chain: as recorded, or else found by its CID alone.

    Without a record it is looked for among the transactions of `sender`. Raises UsageError without a chain or
    a sender, TrustError when it is not there.
    """
    wish = AnchorWish(str(cid), artifact_digest(cid))
    with closing(_open_chain(settings, environ)) as chain:
        assert settings is not None  # noqa: S101 - it was opened
        known = read_anchors(directory)
        record = next((each for each in known if each.data == wish.data), None)
        if record is None:
            if not settings.sender:
                raise UsageError(
                    f"there is no record of an anchor of {cid}, and anchor names no sender to look for it",
                    hint="set `sender` of anchor in targets.yaml to the address of the account",
                )
            record = chain.find(wish, settings.sender, known)
        if record is None:
            raise NotAnchoredError(
                f"{settings.sender} has not anchored {cid} on the chain {settings.chain}",
                hint="`reconcile put PATH --anchor` anchors an artifact",
            )
        return chain.check(record)


def _open_chain(settings: AnchorSettings | None, environ: Mapping[str, str]) -> AnchorChain:
    if settings is None:
        raise UsageError(
            "this repository names no chain for anchors",
            hint="add `anchor:` with chain, rpc and key_env to targets.yaml (docs/audit-log.md)",
        )
    return AnchorChain(settings, environ)
