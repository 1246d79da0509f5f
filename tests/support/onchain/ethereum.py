"""eth-account and eth-abi for tests, imported without their change of the recursion limit (see
deals.onchain.keys).
"""

from __future__ import annotations

import sys
from functools import lru_cache

_limit = sys.getrecursionlimit()

from eth_abi import decode, encode  # noqa: E402
from eth_account import Account  # noqa: E402
from eth_account.messages import encode_typed_data  # noqa: E402
from eth_account.typed_transactions import TypedTransaction  # noqa: E402
from eth_keys.backends.native import main as curve  # noqa: E402
from eth_utils import keccak, to_checksum_address  # noqa: E402
from hexbytes import HexBytes  # noqa: E402

sys.setrecursionlimit(_limit)

# Each takes milliseconds in plain Python, and tests repeat the same ones: their keys and chains are the same.
curve.ecdsa_raw_recover = lru_cache(None)(curve.ecdsa_raw_recover)
curve.ecdsa_raw_sign = lru_cache(None)(curve.ecdsa_raw_sign)
curve.private_key_to_public_key = lru_cache(None)(curve.private_key_to_public_key)

__all__ = [
    "Account",
    "HexBytes",
    "TypedTransaction",
    "decode",
    "encode",
    "encode_typed_data",
    "keccak",
    "to_checksum_address",
]
