"""Piece CIDs: the addresses of pieces on Filecoin, from the root of a binary tree over the padded bytes.

A v2 piece CID (`bafkzci…`) contains the root, the height of the tree and the padding, and so the size of the
data; a v1 CID (`baga6ea4seaq…`) only the root. Only a v2 CID identifies a piece completely: for a v1 CID the
padded size comes from another source, such as a deal on the chain. Sources: FRC-0069 (v2), the multicodecs
fil-commitment-unsealed and sha2-256-trunc254-padded (v1).
"""

from __future__ import annotations

from dataclasses import dataclass

from reconciler.content import varint
from reconciler.content.multibase import decode_base32, encode_base32
from reconciler.errors import DataError

NODE_SIZE = 32  #: bytes of a leaf or an inner node
MIN_HEIGHT = 2  #: 127 bytes of data, padded to four leaves
MAX_HEIGHT = 47  #: the largest whose sizes are exact in every JSON reader; a Filecoin sector has 31
MIN_SIZE = 65  #: bytes of the shortest data that has a piece CID

_V1_PREFIX = b"\x01\x81\xe2\x03\x92\x20\x20"  # CIDv1, fil-commitment-unsealed, sha2-256-trunc254-padded, 32
_V2_PREFIX = b"\x01\x55\x91\x20"  # CIDv1, raw, fr32-sha2-256-trunc254-padded-binary-tree
_MAX_TEXT = 128
_HINT = "a piece CID begins with 'bafkzci' (v2) or 'baga6ea4seaq' (v1)"


@dataclass(frozen=True, slots=True)
class PieceRoot:
    """A v1 piece CID: the 32-byte root of the tree, without its size. Raises DataError."""

    root: bytes

    def __post_init__(self) -> None:
        check_node(self.root)

    def __bytes__(self) -> bytes:
        return _V1_PREFIX + self.root

    def __str__(self) -> str:
        return encode_base32(bytes(self))


@dataclass(frozen=True, slots=True)
class PieceCid:
    """One piece: the 32-byte `root` of its tree, the `height` of the tree (2**height leaves of 32 bytes), and
    the number of zero bytes after the data (`padding`). Two are equal when root and size are.

    Raises DataError when the values are inconsistent: at least one byte of the tree must be data.
    """

    root: bytes
    height: int
    padding: int

    def __post_init__(self) -> None:
        check_node(self.root)
        if not MIN_HEIGHT <= self.height <= MAX_HEIGHT:
            raise DataError(f"a piece of height {self.height}; {MIN_HEIGHT} to {MAX_HEIGHT} are supported")
        if not 0 <= self.padding < capacity(self.height):
            raise DataError(
                f"a piece of height {self.height} contains {capacity(self.height)} bytes, "
                f"so {self.padding} of them cannot be padding"
            )

    @property
    def size(self) -> int:
        """The size of the data in bytes, without padding."""
        return capacity(self.height) - self.padding

    @property
    def padded_size(self) -> int:
        """Bytes of the leaves of the tree, a power of two: the size of the piece on the chain."""
        return NODE_SIZE << self.height

    @property
    def v1(self) -> PieceRoot:
        """The v1 form, which contains only the root."""
        return PieceRoot(self.root)

    def is_tree(self, root: PieceRoot, padded_size: int) -> bool:
        """Whether this piece has the `root` and the `padded_size` (bytes) that a deal states."""
        return root.root == self.root and padded_size == self.padded_size

    def __bytes__(self) -> bytes:
        digest = varint.encode(self.padding) + bytes((self.height,)) + self.root
        return _V2_PREFIX + varint.encode(len(digest)) + digest

    def __str__(self) -> str:
        return encode_base32(bytes(self))


def capacity(height: int) -> int:
    """Return the bytes of data in a tree of `height` (>= MIN_HEIGHT): 127 of each 128."""
    return 127 << (height - MIN_HEIGHT)


def height_for(size: int) -> int:
    """Return the height of the smallest tree for `size` bytes."""
    return max(MIN_HEIGHT, MIN_HEIGHT + (-(-size // 127) - 1).bit_length())


def check_node(node: bytes) -> None:
    """Raise DataError unless `node` is a valid node: 32 bytes, of which the last two bits are zero."""
    if len(node) != NODE_SIZE:
        raise DataError(f"a node of a piece has {len(node)} bytes instead of {NODE_SIZE}")
    if node[-1] & 0xC0:
        raise DataError("a node of a piece is longer than 254 bits")


def parse(text: str) -> PieceCid:
    """Parse a piece CID from v2 text. Raises DataError, worded for a user, also for a v1 CID."""
    piece = parse_any(text)
    if isinstance(piece, PieceRoot):
        raise DataError(
            f"{text!r} is a v1 piece CID, which does not contain the size", hint="use the v2 form, 'bafkzci…'"
        )
    return piece


def parse_any(text: str) -> PieceCid | PieceRoot:
    """Parse a piece CID of either version from canonical text. Raises DataError."""
    if len(text) > _MAX_TEXT:
        raise DataError(f"not a piece CID: longer than {_MAX_TEXT} characters")
    if not text.startswith("b"):
        raise DataError(f"not a piece CID: {text!r}", hint=_HINT)
    try:
        return decode(decode_base32(text))
    except DataError as error:
        raise DataError(f"not a piece CID: {text!r}: {error.message}", hint=_HINT) from None


def decode(data: bytes) -> PieceCid | PieceRoot:
    """Decode the whole of `data` as a binary piece CID of either version. Raises DataError."""
    if data.startswith(_V1_PREFIX):
        return PieceRoot(data[len(_V1_PREFIX) :])
    if not data.startswith(_V2_PREFIX):
        raise DataError("neither a v1 nor a v2 piece CID")
    length, start = varint.decode(data, len(_V2_PREFIX))
    if length != len(data) - start:
        raise DataError(f"the digest has {len(data) - start} bytes, but {length} are declared")
    padding, offset = varint.decode(data, start)
    if len(data) - offset != 1 + NODE_SIZE:
        raise DataError("the digest has the wrong length")
    return PieceCid(data[offset + 1 :], data[offset], padding)
