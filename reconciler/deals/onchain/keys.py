"""Private keys of payers and of session keys, from the environment. This is the only module that names
eth-account.

A key is kept as a Secret and shown only as the address that it signs for. eth-account comes with the extra
`filecoin` and is imported when the first key is loaded, because that takes a second.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from reconciler.deals.onchain.interface import EvmAddress
from reconciler.errors import DataError, UsageError
from reconciler.net.auth import Secret, from_env

_KEY = re.compile(r"(?:0x)?[0-9a-fA-F]{64}")

#: the fields of each type of EIP-712 typed data: (name, type)
TypedFields = Mapping[str, Sequence[tuple[str, str]]]


@dataclass(frozen=True, slots=True)
class TypedDomain:
    """The contract that a signature is for, as EIP-712 describes it."""

    name: str
    version: str
    chain_id: int
    contract: EvmAddress


class SigningKey:
    """A private key on secp256k1, opened by `load_key`. It never appears in text and cannot be pickled."""

    __slots__ = ("_account", "_secret", "address")

    def __init__(self, secret: Secret, account: Any) -> None:
        self._secret = secret
        self._account = account
        self.address = EvmAddress.parse(account.address)

    @property
    def secret(self) -> Secret:
        """The key itself, to remove it from texts of peers."""
        return self._secret

    def sign_typed(self, domain: TypedDomain, types: TypedFields, message: Mapping[str, Any]) -> bytes:
        """Return the signature of typed data (EIP-712): 65 bytes r, s and v, where v is 27 or 28."""
        return bytes(self._account.sign_message(_encoded(domain, types, message)).signature)

    def sign_transaction(self, transaction: Mapping[str, Any]) -> tuple[bytes, bytes]:
        """Return the bytes of a signed transaction (EIP-1559) and its hash."""
        signed = self._account.sign_transaction(dict(transaction))
        return bytes(signed.raw_transaction), bytes(signed.hash)

    def __repr__(self) -> str:
        return f"SigningKey({self.address})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a key cannot be pickled")


def load_key(name: str, environ: Mapping[str, str]) -> SigningKey:
    """Return the key in the environment variable `name`.

    Raises UsageError when it is missing or malformed, or when eth-account is not installed; the message names
    the variable and never its value.
    """
    return open_key(from_env(name, environ), f"the environment variable {name!r}")


def open_key(secret: Secret, what: str) -> SigningKey:
    """Return the key in `secret`; `what` names its place in errors. Raises UsageError."""
    account = _eth_account().Account
    if _KEY.fullmatch(secret.reveal()) is not None:
        try:
            return SigningKey(secret, account.from_key(secret.reveal()))
        except Exception:  # noqa: BLE001, S110 - eth-account's errors quote the key; zero and large numbers are none
            pass
    raise UsageError(
        f"{what} is not a private key", hint="a private key is 64 hexadecimal digits, with or without 0x"
    )


@dataclass(frozen=True, slots=True)
class SignedTransaction:
    """What a signed transaction (EIP-1559) says by itself: its hash, who signed it, and for what."""

    hash: str
    sender: EvmAddress
    to: EvmAddress
    chain_id: int
    nonce: int
    data: bytes


def read_transaction(raw: bytes) -> SignedTransaction:
    """Return what the bytes of a signed transaction say. Raises DataError for anything else."""
    account = _eth_account().Account
    try:
        from eth_account.typed_transactions.typed_transaction import TypedTransaction
        from eth_utils.crypto import keccak
        from hexbytes import HexBytes

        fields = TypedTransaction.from_bytes(HexBytes(raw)).as_dict()
        return SignedTransaction(
            f"0x{keccak(raw).hex()}",
            EvmAddress.parse(account.recover_transaction(raw)),
            EvmAddress.parse(f"0x{bytes(fields['to']).hex()}"),
            int(fields["chainId"]),
            int(fields["nonce"]),
            bytes(fields["data"]),
        )
    except Exception as error:  # noqa: BLE001 - eth-account raises errors of several libraries
        raise DataError(f"not a signed transaction (EIP-1559): {type(error).__name__}") from None


def checksum_text(address: EvmAddress) -> str:
    """Return an address in mixed case with its checksum (EIP-55), as transactions and wallets write it."""
    from eth_utils.address import to_checksum_address

    return str(to_checksum_address(address.value))


def _encoded(domain: TypedDomain, types: TypedFields, message: Mapping[str, Any]) -> Any:
    return _eth_account().messages.encode_typed_data(
        domain_data={
            "name": domain.name,
            "version": domain.version,
            "chainId": domain.chain_id,
            "verifyingContract": str(domain.contract),
        },
        message_types={
            name: [{"name": field, "type": kind} for field, kind in fields] for name, fields in types.items()
        },
        message_data=dict(message),
    )


def _eth_account() -> Any:
    limit = sys.getrecursionlimit()
    try:
        import eth_account
        import eth_account.messages
    except ImportError:
        raise UsageError(
            "signing for Filecoin Onchain Cloud needs the extra `filecoin`",
            hint="pip install 'model-reconciler[filecoin]'",
        ) from None
    finally:
        # py_ecc, which it imports, raises the limit to 100,000: with that, deeply nested JSON of a peer would
        # overflow the stack and end the process instead of raising RecursionError.
        sys.setrecursionlimit(limit)
    return eth_account
