"""The calls of the contracts that this project makes, each with its selector and the types of its answer.

A selector is the first four bytes of the Keccak-256 hash of the signature; the tests compute it again.
Source: the ABIs of FilecoinWarmStorageService 1.3 and its state view, PDPVerifier 3.4 and 3.5, FilecoinPay
1.0, ServiceProviderRegistry 1.2, SessionKeyRegistry and ProviderIdSet.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from reconciler.deals.onchain import abi
from reconciler.deals.onchain.abi import (
    ADDRESS,
    BOOL,
    BYTES,
    BYTES32,
    STRING,
    STRINGS,
    UINT,
    UINT8,
    UINT64,
    UINT96,
    UINTS,
    ArrayKind,
    Kind,
    TupleKind,
)


@dataclass(frozen=True, slots=True)
class Call:
    """One function of a contract: `inputs` are the types of its arguments, `outputs` those of its answer.

    `newer` are numbers of one word after them that only newer versions of the contract return; None stands
    for one that is missing.
    """

    name: str
    selector: bytes
    inputs: tuple[Kind, ...] = ()
    outputs: tuple[Kind, ...] = ()
    newer: int = 0

    @property
    def signature(self) -> str:
        """The canonical signature, such as `getDataSet(uint256)`."""
        return f"{self.name}({','.join(kind.name for kind in self.inputs)})"

    def data(self, *arguments: Any) -> bytes:
        """Return the bytes to call it with. Raises DataError for arguments of other types."""
        return self.selector + abi.encode(self.inputs, arguments)

    def answer(self, data: bytes) -> tuple[Any, ...]:
        """Return the values of an answer. Raises DataError."""
        more = 0
        if self.newer:
            needed = sum(kind.words or 1 for kind in self.outputs)
            more = max(0, min(self.newer, len(data) // abi.WORD - needed))
        found = abi.decode((*self.outputs, *(UINT,) * more), data)
        return found + (None,) * (self.newer - more)


def _call(name: str, selector: str, inputs: tuple[Kind, ...] = (), outputs: tuple[Kind, ...] = ()) -> Call:
    return Call(name, bytes.fromhex(selector), inputs, outputs)


CID = TupleKind((BYTES,))
CIDS = ArrayKind(CID)

# --- FilecoinWarmStorageService (the service)

VERSION = _call("VERSION", "ffa1ad74", (), (STRING,))
#: only contracts that can be stopped have it
PAUSED = _call("paused", "5c975abb", (), (BOOL,))
VIEW = _call("viewContractAddress", "7a9ebc15", (), (ADDRESS,))
VERIFIER = _call("pdpVerifierAddress", "de4b6b71", (), (ADDRESS,))
PAYMENTS = _call("paymentsContractAddress", "bc471469", (), (ADDRESS,))
TOKEN = _call("usdfcTokenAddress", "d39b33ab", (), (ADDRESS,))
REGISTRY = _call("serviceProviderRegistry", "05f892ec", (), (ADDRESS,))
SESSIONS = _call("sessionKeyRegistry", "9f6aa572", (), (ADDRESS,))
TERMINATE = _call("terminateService", "b997a71e", (UINT,))

# --- its state view

CLIENT_DATA_SETS = _call("clientDataSets", "1047717c", (ADDRESS, UINT, UINT), (UINTS,))
CLIENT_DATA_SETS_LENGTH = _call("getClientDataSetsLength", "98a0b04e", (ADDRESS,), (UINT,))
#: three rails, payer, payee, provider, commission, client's id, end, provider id; since 1.3 the
#: pending fees and the reserve
DATA_SET = Call(
    "getDataSet",
    bytes.fromhex("bdaac056"),
    (UINT,),
    (UINT, UINT, UINT, ADDRESS, ADDRESS, ADDRESS, UINT, UINT, UINT, UINT),
    newer=2,
)
CLIENT_NONCES = _call("clientNonces", "35b0e3f4", (ADDRESS, UINT), (UINT,))
DATA_SET_METADATA = _call("getAllDataSetMetadata", "f417c13f", (UINT,), (STRINGS, STRINGS))
ACTIVATION = _call("provingActivationEpoch", "725e3216", (UINT,), (UINT,))
DEADLINE = _call("provingDeadline", "149ac5cc", (UINT,), (UINT,))
PROVEN_THIS_PERIOD = _call("provenThisPeriod", "7598a1cd", (UINT,), (BOOL,))
PROVEN_PERIODS = _call("provenPeriods", "698762cb", (UINT, UINT), (BOOL,))
PDP_CONFIG = _call("getPDPConfig", "ea0f9354", (), (UINT64, UINT, UINT, UINT))
PRICE_LIST = _call("getPriceList", "b7029144", (), (ADDRESS, *(UINT,) * 15))
NEXT_UPGRADE = _call("nextUpgrade", "315e49ea", (), (ADDRESS, UINT96))
APPROVED_PROVIDERS = _call("getApprovedProviders", "7709a7f7", (UINT, UINT), (UINTS,))

# --- PDPVerifier

LIVE = _call("dataSetLive", "ca759f27", (UINT,), (BOOL,))
LISTENER = _call("getDataSetListener", "2b3129bb", (UINT,), (ADDRESS,))
PIECES = _call("getActivePiecesByCursor", "9fbc9f1b", (UINT, UINT, UINT), (CIDS, UINTS, BOOL))
PIECE_COUNT = _call("getActivePieceCount", "5353bdfd", (UINT,), (UINT,))
NEXT_PIECE = _call("getNextPieceId", "1c5ae80f", (UINT,), (UINT,))
REMOVALS = _call("getScheduledRemovals", "6fa44692", (UINT,), (UINTS,))
LEAVES = _call("getDataSetLeafCount", "a531998c", (UINT,), (UINT,))
CHALLENGED = _call("getChallengeRange", "89208ba9", (UINT,), (UINT,))

# --- FilecoinPay

ACCOUNT = _call("accounts", "ad74b775", (ADDRESS, ADDRESS), (UINT,) * 4)
APPROVAL = _call("operatorApprovals", "e3d4c69e", (ADDRESS,) * 3, (BOOL, *(UINT,) * 5))
DEPOSIT = _call(
    "depositWithPermitAndApproveOperator",
    "7218b707",
    (ADDRESS, ADDRESS, UINT, UINT, UINT8, BYTES32, BYTES32, ADDRESS, UINT, UINT, UINT),
)
APPROVE = _call("setOperatorApproval", "875bc8b6", (ADDRESS, ADDRESS, BOOL, UINT, UINT, UINT))
WITHDRAW = _call("withdraw", "f3fef3a3", (ADDRESS, UINT))

# --- the token (ERC-20 with ERC-2612)

BALANCE = _call("balanceOf", "70a08231", (ADDRESS,), (UINT,))
TOKEN_NONCE = _call("nonces", "7ecebe00", (ADDRESS,), (UINT,))
TOKEN_NAME = _call("name", "06fdde03", (), (STRING,))
TOKEN_VERSION = _call("version", "54fd4d50", (), (STRING,))

# --- SessionKeyRegistry

LOGIN = _call("login", "0848f33f", (ADDRESS, UINT, ArrayKind(BYTES32), STRING))
REVOKE = _call("revoke", "fd89202e", (ADDRESS, ArrayKind(BYTES32), STRING))
EXPIRY = _call("authorizationExpiry", "9501b2cc", (ADDRESS, ADDRESS, BYTES32), (UINT,))

# --- ServiceProviderRegistry, ProviderIdSet

PROVIDER = _call(
    "getProviderWithProduct",
    "add33358",
    (UINT, UINT8),
    (
        TupleKind(
            (
                UINT,
                TupleKind((ADDRESS, ADDRESS, STRING, STRING, BOOL)),
                TupleKind((UINT8, STRINGS, BOOL)),
                ArrayKind(BYTES),
            )
        ),
    ),
)
PROVIDER_BY_ADDRESS = _call("getProviderIdByAddress", "93ecb91e", (ADDRESS,), (UINT,))
ACTIVE_PROVIDERS = _call("getAllActiveProviders", "2f67c065", (UINT, UINT), (UINTS, BOOL))
ENDORSED_PROVIDERS = _call("getProviderIds", "0a9cb4a7", (), (UINTS,))
