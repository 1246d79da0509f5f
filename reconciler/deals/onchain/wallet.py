"""Transactions that a payer sends itself: deposits, approvals, session keys, and the ending of a data set.

Sending is done in three steps, so that nothing is signed for a call that would be refused, and nothing is
paid twice: the node executes the call without sending it; the transaction gets the payer's next nonce, and is
not signed while an earlier one is still waiting; and its receipt is awaited, with a higher fee when it gets
stuck. The gas is paid in FIL by the payer. Used by `reconcile fund`; publishing needs no transaction of the
payer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from reconciler.deals.json_rpc import JsonRpc, RpcRefusedError
from reconciler.deals.onchain import calls
from reconciler.deals.onchain.calls import Call
from reconciler.deals.onchain.interface import (
    FOREVER,
    UPLOAD_SCOPES,
    Contracts,
    EvmAddress,
    SigningScope,
)
from reconciler.deals.onchain.keys import SigningKey, TypedDomain, checksum_text
from reconciler.deals.onchain.nodes import hex_bytes, quantity
from reconciler.deals.onchain.reader import ChainView
from reconciler.deals.onchain.reverts import explain_revert
from reconciler.deals.onchain.signing import PERMISSIONS, sign_permit
from reconciler.errors import PeerError
from reconciler.json_fields import JsonFields

ORIGIN = "reconcile"  #: what session keys are registered as
PERMIT_SECONDS = 3600  #: validity of a permit

_STUCK = 300.0  # seconds until the fee is raised
_RAISES = 3  # times that the fee is raised
_LOST = 6  # looks for the receipt of a used nonce: nodes know the new count before they find the receipt
_KNOWN = ("already known", "already in mpool", "known transaction", "already imported")
_USED = ("nonce too low", "nonce is too low", "minimum expected nonce", "old nonce")
_POOR = ("insufficient funds", "not enough funds", "insufficient balance")


class TransactionError(PeerError):
    """A transaction was not carried out, or it is unknown whether it was; the message says which."""


class TransactionRefusedError(TransactionError):
    """A contract refuses the call; nothing was sent, or the transaction failed and changed nothing."""


class TransactionPendingError(TransactionError):
    """An earlier transaction of the payer, or this one, is not on the chain yet; the hint says what to do."""


class NonceUsedError(TransactionError):
    """Another transaction of the payer was carried out in place of this one, which never will be."""


@dataclass(frozen=True, slots=True)
class UnsentCall:
    """A call of the contract `to`, as a user reads it in `what`, such as "the deposit"."""

    what: str
    to: EvmAddress
    data: bytes
    value: int = 0


@dataclass(frozen=True, slots=True)
class SentTransaction:
    """A transaction that a node has taken. `hashes` are those of all its forms, with rising fees."""

    call: UnsentCall
    nonce: int
    hashes: tuple[str, ...]
    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Receipt:
    """A transaction that was carried out, in the block with this number; `gas` and `price` in attoFIL."""

    hash: str
    block: int
    gas: int
    price: int


def deposit_call(
    view: ChainView,
    key: SigningKey,
    amount: int,
    *,
    rate_allowance: int = FOREVER,
    lockup_allowance: int = FOREVER,
    max_lockup_period: int | None = None,
) -> UnsentCall:
    """Return the deposit of `amount` that also approves the service as operator with these allowances.

    The key must be the payer's. `max_lockup_period` (epochs) defaults to what the service requires.
    """
    name, version, nonce = view.token_domain(key.address)
    contracts = view.contracts
    permit = sign_permit(
        key,
        TypedDomain(name, version, view.chain_id, contracts.token),
        contracts,
        value=amount,
        nonce=nonce,
        deadline=view.block.timestamp + PERMIT_SECONDS,
    )
    return _unsent(
        "the deposit",
        contracts.payments,
        calls.DEPOSIT,
        contracts.token,
        key.address,
        amount,
        permit.deadline,
        permit.v,
        permit.r,
        permit.s,
        contracts.service,
        rate_allowance,
        lockup_allowance,
        view.prices.lockup_period if max_lockup_period is None else max_lockup_period,
    )


def approve_call(
    view: ChainView,
    *,
    approved: bool = True,
    rate_allowance: int = FOREVER,
    lockup_allowance: int = FOREVER,
) -> UnsentCall:
    """Return the approval of the service as operator without a deposit, or its withdrawal."""
    contracts, period = view.contracts, view.prices.lockup_period
    return _unsent(
        "the approval",
        contracts.payments,
        calls.APPROVE,
        contracts.token,
        contracts.service,
        approved,
        rate_allowance if approved else 0,
        lockup_allowance if approved else 0,
        period if approved else 0,
    )


def withdraw_call(view: ChainView, amount: int) -> UnsentCall:
    """Return the withdrawal of `amount` from the account into the wallet."""
    contracts = view.contracts
    return _unsent("the withdrawal", contracts.payments, calls.WITHDRAW, contracts.token, amount)


def login_call(
    contracts: Contracts, session: EvmAddress, expires: int, scopes: Sequence[SigningScope] = UPLOAD_SCOPES
) -> UnsentCall:
    """Return the grant of `scopes` to a session key until `expires` (Unix seconds)."""
    permissions = [PERMISSIONS[scope] for scope in scopes]
    return _unsent("the session key", contracts.sessions, calls.LOGIN, session, expires, permissions, ORIGIN)


def revoke_call(
    contracts: Contracts, session: EvmAddress, scopes: Sequence[SigningScope] = tuple(SigningScope)
) -> UnsentCall:
    """Return the withdrawal of `scopes` from a session key."""
    permissions = [PERMISSIONS[scope] for scope in scopes]
    return _unsent("the revocation", contracts.sessions, calls.REVOKE, session, permissions, ORIGIN)


def terminate_call(contracts: Contracts, data_set: int) -> UnsentCall:
    """Return the ending of a data set by its payer: it is paid for, and proved, for another 30 days."""
    return _unsent("the termination", contracts.service, calls.TERMINATE, data_set)


class Wallet:
    """Sends transactions of one key through one node, whose name errors begin with. `coin` pays for gas.

    A receipt is looked for every `poll` seconds; `pause` waits, `clock` returns seconds. All methods raise
    RequestError and TransactionError.
    """

    def __init__(
        self,
        rpc: JsonRpc,
        chain_id: int,
        key: SigningKey,
        *,
        coin: str = "FIL",
        poll: float = 5.0,
        pause: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rpc = rpc
        self._chain_id = chain_id
        self._key = key
        self._coin = coin
        self._poll = poll
        self._pause = pause
        self._clock = clock

    def carry_out(self, call: UnsentCall) -> Receipt:
        """Send a call and wait until it is on the chain."""
        return self.wait(self.send(call))

    def send(self, call: UnsentCall) -> SentTransaction:
        """Sign and send a call.

        Raises TransactionRefusedError, before anything is signed, when it would fail; TransactionPendingError
        when an earlier transaction of this key is not on the chain yet.
        """
        sender = str(self._key.address)
        described = {"from": sender, "to": str(call.to), "data": f"0x{call.data.hex()}"}
        if call.value:
            described["value"] = hex(call.value)
        try:
            gas = quantity(self._rpc.call("eth_estimateGas", (described,)))
        except RpcRefusedError as error:
            raise self._refused(call, error.data, error.reason) from None
        done, nonce = self._count("latest"), self._count("pending")
        if nonce > done:
            raise TransactionPendingError(
                f"{self._rpc.name}: {nonce - done} earlier transactions of {sender} are not on the chain yet",
                hint="wait a few minutes and run again; nothing was sent",
            )
        base = quantity(self._rpc.call("eth_getBlockByNumber", ("latest", False)), "baseFeePerGas")
        tip = quantity(self._rpc.call("eth_maxPriorityFeePerGas"))
        fields = {
            "type": 2,
            "chainId": self._chain_id,
            "nonce": nonce,
            "gas": gas * 5 // 4,
            "to": checksum_text(call.to),
            "value": call.value,
            "data": call.data,
            "maxFeePerGas": 2 * base + tip,
            "maxPriorityFeePerGas": tip,
        }
        return self._submit(SentTransaction(call, nonce, (), fields))

    def wait(self, sent: SentTransaction) -> Receipt:
        """Wait until a transaction is on the chain, and raise its fee when it is stuck.

        Raises TransactionRefusedError when it failed, NonceUsedError when another one took its place, and
        TransactionPendingError when it is still waiting after all that: it may be carried out later.
        """
        lost = 0  # times in a row that its nonce was used, and it had no receipt
        for raised in range(_RAISES + 1):
            end = self._clock() + _STUCK
            while self._clock() < end:
                # The count is read before the receipts: in the other order a transaction that lands in
                # between would look as if another one had taken its nonce.
                used = self._count("latest") > sent.nonce
                for receipt in self._receipts(sent):
                    return self._checked(sent, receipt)
                lost = lost + 1 if used else 0
                if lost == _LOST:
                    raise self._replaced(sent)
                self._pause(self._poll)
            if raised < _RAISES:
                sent = self._raise_fee(sent)
        raise TransactionPendingError(
            f"{self._rpc.name}: {sent.call.what} is not on the chain yet (transaction {sent.hashes[-1]})",
            hint="it may still be carried out: look the transaction up before you run again",
        )

    def _replaced(self, sent: SentTransaction) -> NonceUsedError:
        return NonceUsedError(
            f"{self._rpc.name}: another transaction of {self._key.address} took the place of "
            f"{sent.call.what}, which will not be carried out",
            hint="another run or wallet uses the same key; run again when it has finished",
        )

    def _receipts(self, sent: SentTransaction) -> Iterator[JsonFields]:
        for each in sent.hashes:
            receipt = self._rpc.call("eth_getTransactionReceipt", (each,))
            if receipt.has():
                yield receipt

    def _checked(self, sent: SentTransaction, receipt: JsonFields) -> Receipt:
        block = quantity(receipt, "blockNumber")
        status = quantity(receipt, "status")
        if status == 1:
            return Receipt(
                receipt.text("transactionHash"),
                block,
                quantity(receipt, "gasUsed"),
                quantity(receipt, "effectiveGasPrice"),
            )
        described = {
            "from": str(self._key.address),
            "to": str(sent.call.to),
            "data": f"0x{sent.call.data.hex()}",
        }
        try:
            self._rpc.call("eth_call", (described, hex(block)))
        except RpcRefusedError as error:
            raise self._refused(sent.call, error.data, error.reason) from None
        raise self._refused(sent.call, b"", "it ran out of gas, or the chain changed in between")

    def _raise_fee(self, sent: SentTransaction) -> SentTransaction:
        """Send `sent` again with the fees raised by a quarter and more, as nodes require of a replacement."""
        fields = dict(sent.fields)
        for name in ("maxFeePerGas", "maxPriorityFeePerGas"):
            fields[name] = fields[name] * 13 // 10 + 1
        return self._submit(replace(sent, fields=fields))

    def _submit(self, sent: SentTransaction) -> SentTransaction:
        raw, digest = self._key.sign_transaction(sent.fields)
        name = f"0x{digest.hex()}"
        sent = replace(sent, hashes=(*sent.hashes, name))
        try:
            found = self._rpc.call("eth_sendRawTransaction", (f"0x{raw.hex()}",))
        except RpcRefusedError as error:
            text = error.reason.lower()
            if any(words in text for words in _KNOWN) or (len(sent.hashes) > 1 and "nonce" in text):
                return sent  # it was sent before; or an earlier form of it has landed, as `wait` will see
            if any(words in text for words in _USED):
                raise NonceUsedError(
                    f"{self._rpc.name}: another transaction of {self._key.address} was faster than "
                    f"{sent.call.what}, which was not sent",
                    hint="another run or wallet uses the same key; run again when it has finished",
                ) from None
            if any(words in text for words in _POOR):
                raise TransactionRefusedError(
                    f"{self._rpc.name}: {self._key.address} cannot pay the gas of {sent.call.what}",
                    hint=f"send {self._coin} to this address; nothing was sent",
                ) from None
            raise self._refused(sent.call, error.data, error.reason) from None
        if hex_bytes(found) != digest:
            raise found.error(f"the hash of the transaction, {name}")
        return sent

    def _count(self, at: str) -> int:
        return quantity(self._rpc.call("eth_getTransactionCount", (str(self._key.address), at)))

    def _refused(self, call: UnsentCall, data: bytes, text: str) -> TransactionRefusedError:
        if not data and any(words in text.lower() for words in _POOR):
            return TransactionRefusedError(
                f"{self._rpc.name}: {self._key.address} cannot pay the gas of {call.what}",
                hint=f"send {self._coin} to this address; nothing was sent",
            )
        reason = explain_revert(data, text)
        return TransactionRefusedError(
            f"{self._rpc.name}: {call.what} was refused: {reason.text}", hint=reason.hint or None
        )


def _unsent(what: str, to: EvmAddress, call: Call, *arguments: object) -> UnsentCall:
    return UnsentCall(what, to, call.data(*arguments))
