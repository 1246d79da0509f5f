"""What a payer, or its session key, signs for a provider: data sets and pieces; and the permit of a deposit.

A provider sends the transaction; the signature in its `extraData` is the payer's consent. The typed data
(EIP-712) and the layout of `extraData` are those of FilecoinWarmStorageService 1.3
(SignatureVerificationLib); the permit is ERC-2612.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reconciler.content.piece_cid import PieceCid
from reconciler.deals.onchain import abi
from reconciler.deals.onchain.abi import ADDRESS, BYTES, STRINGS, UINT, ArrayKind
from reconciler.deals.onchain.interface import Contracts, EvmAddress, SigningScope
from reconciler.deals.onchain.keys import SigningKey, TypedDomain, TypedFields
from reconciler.errors import DataError

MAX_SET_METADATA = 10  #: entries of a data set
MAX_PIECE_METADATA = 3  #: entries of a piece
MAX_KEY = 32  #: bytes of the key of an entry
MAX_VALUE = 96  #: bytes of the value of an entry

Metadata = Mapping[str, str]

_ENTRY = (("key", "string"), ("value", "string"))
TYPES: Mapping[SigningScope, TypedFields] = {
    SigningScope.CREATE_DATA_SET: {
        "CreateDataSet": (
            ("clientDataSetId", "uint256"),
            ("payee", "address"),
            ("metadata", "MetadataEntry[]"),
        ),
        "MetadataEntry": _ENTRY,
    },
    SigningScope.ADD_PIECES: {
        "AddPieces": (
            ("clientDataSetId", "uint256"),
            ("nonce", "uint256"),
            ("pieceData", "Cid[]"),
            ("pieceMetadata", "PieceMetadata[]"),
        ),
        "Cid": (("data", "bytes"),),
        "MetadataEntry": _ENTRY,
        "PieceMetadata": (("pieceIndex", "uint256"), ("metadata", "MetadataEntry[]")),
    },
}
PERMIT: TypedFields = {
    "Permit": (
        ("owner", "address"),
        ("spender", "address"),
        ("value", "uint256"),
        ("nonce", "uint256"),
        ("deadline", "uint256"),
    )
}

#: what a session key can be granted: the hash of the type that it may sign (EIP-712 `typeHash`)
PERMISSIONS: Mapping[SigningScope, bytes] = {
    SigningScope.CREATE_DATA_SET: bytes.fromhex(
        "25ebf20299107c91b4624d5bac3a16d32cabf0db23b450ee09ab7732983b1dc9"
    ),
    SigningScope.ADD_PIECES: bytes.fromhex(
        "954bdc254591a7eab1b73f03842464d9283a08352772737094d710a4428fd183"
    ),
    SigningScope.SCHEDULE_PIECE_REMOVALS: bytes.fromhex(
        "5415701e313bb627e755b16924727217bb356574fe20e7061442c200b0822b22"
    ),
    SigningScope.TERMINATE_SERVICE: bytes.fromhex(
        "522bd88a11de1cdc6574394dde7a21ae488ff13e16e7408d0ea721dd8479dffc"
    ),
}


def service_domain(chain_id: int, service: EvmAddress) -> TypedDomain:
    """Return the domain of everything that is signed for the storage service."""
    return TypedDomain("FilecoinWarmStorageService", "1", chain_id, service)


@dataclass(frozen=True, slots=True)
class UploadSigner:
    """Signs for `payer`. `key` is the payer's own, or a session key with the scopes of what it signs.

    Each method returns the `extraData` of a call. Raises DataError for metadata beyond the limits.
    """

    payer: EvmAddress
    key: SigningKey
    domain: TypedDomain

    def create_data_set(self, client_id: int, payee: EvmAddress, metadata: Metadata) -> bytes:
        """Sign the creation of a data set, `client_id` being its name; `payee` is the provider's payee."""
        _check_metadata(metadata, MAX_SET_METADATA, "a data set")
        signature = self._sign(
            SigningScope.CREATE_DATA_SET,
            {"clientDataSetId": client_id, "payee": str(payee), "metadata": _entries(metadata)},
        )
        return abi.encode(
            (ADDRESS, UINT, STRINGS, STRINGS, BYTES),
            (self.payer, client_id, list(metadata), list(metadata.values()), signature),
        )

    def add_pieces(
        self, client_id: int, nonce: int, pieces: Sequence[PieceCid], metadata: Sequence[Metadata] = ()
    ) -> bytes:
        """Sign the addition of `pieces` to the data set `client_id`.

        `metadata` has one mapping for each piece; none at all stands for empty ones.
        """
        each = list(metadata) or [{} for _ in pieces]
        if len(each) != len(pieces) or not pieces:
            raise DataError(f"{len(pieces)} pieces with {len(each)} sets of metadata cannot be signed")
        for entries in each:
            _check_metadata(entries, MAX_PIECE_METADATA, "a piece")
        signature = self._sign(
            SigningScope.ADD_PIECES,
            {
                "clientDataSetId": client_id,
                "nonce": nonce,
                "pieceData": [{"data": bytes(piece)} for piece in pieces],
                "pieceMetadata": [
                    {"pieceIndex": number, "metadata": _entries(entries)}
                    for number, entries in enumerate(each)
                ],
            },
        )
        lists = ArrayKind(STRINGS)
        return abi.encode(
            (UINT, lists, lists, BYTES),
            (
                nonce,
                [list(entries) for entries in each],
                [list(entries.values()) for entries in each],
                signature,
            ),
        )

    def _sign(self, scope: SigningScope, message: Mapping[str, object]) -> bytes:
        return self.key.sign_typed(self.domain, TYPES[scope], message)


def create_and_add(create: bytes, add: bytes) -> bytes:
    """Return the `extraData` of a call that creates a data set and adds its first pieces."""
    return abi.encode((BYTES, BYTES), (create, add))


@dataclass(frozen=True, slots=True)
class Permit:
    """A signed permission (ERC-2612) for FilecoinPay to take `value` from the owner until `deadline`.

    `deadline` is in Unix seconds.
    """

    value: int
    deadline: int
    v: int
    r: bytes
    s: bytes


def sign_permit(
    key: SigningKey, token: TypedDomain, contracts: Contracts, *, value: int, nonce: int, deadline: int
) -> Permit:
    """Sign a permit of the key's owner. `token` is the token's own domain, `nonce` what it answers for it."""
    signature = key.sign_typed(
        token,
        PERMIT,
        {
            "owner": str(key.address),
            "spender": str(contracts.payments),
            "value": value,
            "nonce": nonce,
            "deadline": deadline,
        },
    )
    return Permit(value, deadline, signature[64], signature[:32], signature[32:64])


def _entries(metadata: Metadata) -> list[dict[str, str]]:
    return [{"key": key, "value": value} for key, value in metadata.items()]


def _check_metadata(metadata: Metadata, most: int, what: str) -> None:
    if len(metadata) > most:
        raise DataError(f"{what} has {len(metadata)} entries of metadata; at most {most} are allowed")
    for key, value in metadata.items():
        if not 0 < len(key.encode()) <= MAX_KEY or len(value.encode()) > MAX_VALUE:
            raise DataError(
                f"the metadata {key[:64]!r} of {what} is too long: a key has 1 to {MAX_KEY} bytes, "
                f"a value at most {MAX_VALUE}"
            )
