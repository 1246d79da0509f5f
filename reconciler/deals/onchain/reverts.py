"""Why a contract refused a call: its error, as a sentence for the user. Pure.

A contract that refuses returns four bytes that name the error, then its arguments. A node passes them on, and
a provider repeats them in its text, as `0x…`. Source: Errors.sol of filecoin-services and filecoin-pay, and
PDPVerifier; the tests compute the four bytes again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from reconciler.deals.onchain import abi
from reconciler.deals.onchain.abi import ADDRESS, BOOL, STRING, UINT, Kind
from reconciler.deals.onchain.money import format_amount
from reconciler.errors import DataError, Reason
from reconciler.net.errors import sanitize


@dataclass(frozen=True, slots=True)
class ContractError:
    """One error of the contracts: its `inputs`, and a text or a function of their values that words it."""

    name: str
    inputs: tuple[Kind, ...]
    text: str | Callable[..., str]
    hint: str = ""

    @property
    def signature(self) -> str:
        """The canonical signature, such as `DataSetNotLive()`."""
        return f"{self.name}({','.join(kind.name for kind in self.inputs)})"


_FUND = "deposit more: run reconcile fund TARGET"
_ALLOW = "run reconcile fund TARGET to approve the service, or to raise its allowances"
_AGAIN = "run again: the next run reads the chain anew"


def _needed(_: Any, needed: int, available: int) -> str:
    return f"{format_amount(needed)} are needed, and {format_amount(available)} are available"


def _beyond(allowed: int, used: int) -> str:
    return f"the payer allows the service {format_amount(allowed)}, and {format_amount(used)} are needed"


_TWO_AND_TWO = (ADDRESS, ADDRESS, UINT, UINT)

ERRORS: Mapping[bytes, ContractError] = {
    bytes.fromhex(selector): error
    for selector, error in {
        "db94c961": ContractError(
            "ClientDataSetAlreadyRegistered", (UINT,), "this call has been made before", _AGAIN
        ),
        "42d750dc": ContractError(
            "InvalidSignature",
            (ADDRESS, ADDRESS),
            lambda payer, signer: f"the signature is by {signer}, which may not sign this for {payer}",
            "check the key, that its session has this scope and has not expired, and the network",
        ),
        "dae03403": ContractError("InsufficientLockupFunds", (ADDRESS, UINT, UINT), _needed, _FUND),
        "e610210c": ContractError(
            "InsufficientUnlockedFunds",
            (UINT, UINT),
            lambda available, asked: _needed(None, asked, available),
            "what is locked for running data sets cannot be withdrawn",
        ),
        "020c2e30": ContractError(
            "LockupNotSettledRateChangeNotAllowed",
            (UINT, ADDRESS, BOOL, UINT, UINT),
            "the account is exhausted",
            _FUND,
        ),
        "249e1b0e": ContractError(
            "LockupFixedIncreaseNotAllowedDueToInsufficientFunds",
            _TWO_AND_TWO,
            "the account is exhausted",
            _FUND,
        ),
        "e450d38c": ContractError(
            "ERC20InsufficientBalance",
            (ADDRESS, UINT, UINT),
            lambda _, has, asked: f"the wallet has {format_amount(has)} and not {format_amount(asked)}",
            "send USDFC to the payer's address first",
        ),
        "eef23db6": ContractError(
            "OperatorNotApproved", (ADDRESS, ADDRESS), "the payer has not approved the service", _ALLOW
        ),
        "3a66032e": ContractError(
            "InsufficientRateAllowance",
            (*_TWO_AND_TWO, UINT),
            "the payer's allowance for an epoch is too small",
            _ALLOW,
        ),
        "dfca894c": ContractError(
            "InsufficientLockupAllowance",
            (*_TWO_AND_TWO, UINT),
            "the payer's allowance for lockup is too small",
            _ALLOW,
        ),
        "591b6546": ContractError(
            "InsufficientMaxLockupPeriod", _TWO_AND_TWO, "the payer allows too short a lockup", _ALLOW
        ),
        "6c577bf9": ContractError("OperatorRateAllowanceExceeded", (UINT, UINT), _beyond, _ALLOW),
        "8dcd0606": ContractError("OperatorLockupAllowanceExceeded", (UINT, UINT), _beyond, _ALLOW),
        "211a40c0": ContractError(
            "DataSetPaymentAlreadyTerminated",
            (UINT,),
            lambda number: f"the service for data set {number} was terminated",
            _AGAIN,
        ),
        "d7c45de5": ContractError(
            "DataSetPaymentBeyondEndEpoch",
            (UINT, UINT, UINT),
            lambda number, end, _: f"the service for data set {number} ended at epoch {end}",
            _AGAIN,
        ),
        "5d946944": ContractError("DataSetNotLive", (), "the data set was deleted", _AGAIN),
        "cba16d8c": ContractError(
            "InvalidDataSetId", (UINT,), lambda number: f"there is no data set {number}", _AGAIN
        ),
        "23fe2e89": ContractError(
            "PaymentRailsNotFinalized",
            (UINT, UINT),
            lambda number, end: f"data set {number} is paid for until epoch {end}",
        ),
        "46a1a68a": ContractError(
            "RailNotFullySettled",
            (UINT, UINT, UINT),
            "the provider has not collected all of its payment",
        ),
        "d87df04d": ContractError("RailInactiveOrSettled", (UINT,), "this payment has ended"),
        "232cb27a": ContractError(
            "ProviderNotRegistered", (ADDRESS,), lambda who: f"the provider {who} is not registered"
        ),
        "b35a940f": ContractError(
            "PendingPieceDeletions",
            (UINT,),
            "pieces that are scheduled for removal must leave first",
            "wait for the provider's next proof",
        ),
        "c7b67cf3": ContractError(
            "IndexedError",
            (UINT, STRING),
            lambda number, text: f"piece {number + 1} of the call was refused: {sanitize(text)}",
        ),
        "d307879f": ContractError(
            "MetadataKeyExceedsMaxLength", (UINT, UINT, UINT), "a key of the metadata is too long"
        ),
        "9a16e82a": ContractError(
            "MetadataValueExceedsMaxLength", (UINT, UINT, UINT), "a value of the metadata is too long"
        ),
        "9b7cf882": ContractError(
            "MetadataArrayCountMismatch",
            (UINT, UINT),
            "the contract expects the metadata of pieces in another form",
            "a newer version of this program may know it",
        ),
        "a9255222": ContractError(
            "ExtraDataTooLarge",
            (UINT, UINT),
            lambda has, most: f"the call has {has} bytes; {most} are allowed",
        ),
        "7e47554b": ContractError(
            "CallerNotPayerOrPayee",
            (UINT, ADDRESS, ADDRESS, ADDRESS),
            lambda number, payer, _, caller: f"data set {number} is paid by {payer}, not by {caller}",
        ),
        "5269c0dd": ContractError(
            "SignerMustBeMsgSender",
            (ADDRESS, ADDRESS),
            "only the owner of the funds may deposit and approve at once",
        ),
        "62791302": ContractError("ERC2612ExpiredSignature", (UINT,), "the permit has expired", _AGAIN),
        "4b800e46": ContractError(
            "ERC2612InvalidSigner",
            (ADDRESS, ADDRESS),
            "the permit is not signed by the owner of the funds",
            "check the key and the network",
        ),
        "d93c0665": ContractError(
            "EnforcedPause",
            (),
            "the contract is paused",
            "its operators have stopped it; wait and run again",
        ),
        "08c379a0": ContractError("Error", (STRING,), sanitize),
        "4e487b71": ContractError("Panic", (UINT,), lambda code: f"it failed (panic {code:#x})"),
    }.items()
}

_HEX = re.compile(r"0x([0-9a-fA-F]{8,})")


def explain_revert(data: bytes, text: str = "") -> Reason:
    """Return why a contract refused, from its answer `data` or, where that is empty, from a peer's `text`."""
    data = data or find_revert(text)
    known = ERRORS.get(data[:4])
    if known is not None:
        if isinstance(known.text, str):  # providers often pass on no more than the first four bytes
            return Reason(known.text, known.hint)
        try:
            return Reason(known.text(*abi.decode(known.inputs, data[4:])), known.hint)
        except DataError:
            return Reason(f"it refused with {known.name}", known.hint)
    if data:
        return Reason(f"it refused with an error that this version does not know: 0x{data[:4].hex()}")
    return Reason(sanitize(text) or "it refused without a reason")


def find_revert(text: str) -> bytes:
    """Return the bytes of the first known error in the text of a provider or node; none: b""."""
    for match in _HEX.finditer(text):
        digits = match[1]
        data = bytes.fromhex(digits[: len(digits) // 2 * 2])
        if data[:4] in ERRORS:
            return data
    return b""
