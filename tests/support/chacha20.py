"""The ChaCha20 key stream that the public CID vectors use as content (RFC 8439, nonce 0, counter 0).

Many blocks are computed at once in wide integers, one 64-bit lane per block, so that a MiB takes well under a
second with the standard library alone.
"""

from __future__ import annotations

import hashlib
from array import array

_SIGMA = (0x61707865, 0x3320646E, 0x79622D32, 0x6B206574)
_ROUNDS = (
    (0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15),
    (0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14),
)  # fmt: skip
BLOCK = 64  #: bytes of key stream per block


def seeded_bytes(seed: str, size: int, start: int = 0) -> bytes:
    """Return `size` bytes of the stream with the key sha2-256(`seed`), from `start`, a multiple of 64."""
    key = hashlib.sha256(seed.encode()).digest()
    first, rest = divmod(start, BLOCK)
    if rest:
        raise ValueError("the stream is made from whole blocks")
    blocks = -(-size // BLOCK)
    ones = int.from_bytes(b"\x01\0\0\0\0\0\0\0" * blocks, "little")
    low = ones * 0xFFFFFFFF
    counters = int.from_bytes(array("Q", range(first, first + blocks)).tobytes(), "little")
    words = [ones * word for word in _SIGMA]
    words += [ones * int.from_bytes(key[i : i + 4], "little") for i in range(0, 32, 4)]
    words += [counters, 0, 0, 0]
    state = list(words)

    def step(a: int, b: int, d: int, left: int) -> None:
        state[a] = (state[a] + state[b]) & low
        mixed = state[d] ^ state[a]
        state[d] = ((mixed << left) & low) | ((mixed >> (32 - left)) & low)

    for _ in range(10):
        for a, b, c, d in _ROUNDS:
            step(a, b, d, 16)
            step(c, d, b, 12)
            step(a, b, d, 8)
            step(c, d, b, 7)
    out = array("I", bytes(BLOCK * blocks))
    for i, word in enumerate(words):
        lanes = array("I")
        lanes.frombytes(((state[i] + word) & low).to_bytes(8 * blocks, "little"))
        out[i::16] = lanes[::2]
    return out.tobytes()[:size]
