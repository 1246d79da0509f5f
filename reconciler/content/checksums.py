"""The format of `SHA256SUMS`, as `sha256sum` of GNU coreutils writes and checks it.

A line is 64 hex digits, a space, a space or `*`, and the path. A path with a backslash or a line break is
escaped, and its line then begins with a backslash. Lines are in C-locale order without `./`, so the sha256 of
the whole file is the `dirHash` of in-toto. Sources: GNU coreutils manual, "cksum output modes"; in-toto
attestation `digest_set.md`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from reconciler.errors import BundleError, Where

NAME = "SHA256SUMS"
MAX_SIZE = 64 << 20  #: bytes of the largest SHA256SUMS that is read

_LINE = re.compile(r"(\\?)([0-9A-Fa-f]{64}) [ *](.+)", re.DOTALL)
_ESCAPES = {"\\\\": "\\", "\\n": "\n", "\\r": "\r"}


@dataclass(frozen=True, slots=True)
class Checksum:
    """One line: `path`, its expected 32-byte `digest`, and the number of the line, from 1."""

    path: str
    digest: bytes
    line: int


def render(digests: Iterable[tuple[str, bytes]]) -> bytes:
    """Return a SHA256SUMS over pairs of path and 32-byte digest, given in any order."""
    lines = []
    for path, digest in sorted(digests, key=lambda pair: pair[0].encode()):
        escaped = path.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
        lines.append(f"{'' if escaped == path else chr(92)}{digest.hex()}  {escaped}\n")
    return "".join(lines).encode()


def parse(data: bytes) -> tuple[Checksum, ...]:
    """Parse every line of a SHA256SUMS. Lines that begin with `#` are comments, as for sha256sum.

    Raises BundleError with the line when a line is malformed, repeats a path, or names a path outside of the
    directory.
    """
    found: dict[str, Checksum] = {}
    lines = data.split(b"\n")
    if lines[-1] == b"":
        lines.pop()
    for number, raw in enumerate(lines, start=1):
        if raw.startswith(b"#"):
            continue
        where = Where(NAME, number)
        checksum = _parse_line(raw, number, where)
        first = found.setdefault(checksum.path, checksum)
        if first is not checksum:
            raise BundleError(f"{checksum.path!r} is already listed in line {first.line}", where=where)
    return tuple(found.values())


def _parse_line(raw: bytes, number: int, where: Where) -> Checksum:
    hint = "write each line as `sha256sum FILE...` prints it: the digest, two spaces, the path"
    try:
        match = _LINE.fullmatch(raw.decode())
    except UnicodeDecodeError:
        raise BundleError("malformed line: not UTF-8", hint=hint, where=where) from None
    if match is None:
        raise BundleError(f"malformed line: {raw.decode()[:80]!r}", hint=hint, where=where)
    escape, digest, path = match.groups()
    if escape:
        try:
            path = re.sub(r"\\.?", lambda found: _ESCAPES[found[0]], path, flags=re.DOTALL)
        except KeyError:
            raise BundleError(f"malformed escape in {path!r}", hint=hint, where=where) from None
    while path.startswith("./"):
        path = path[2:]
    if any(part in ("", ".", "..") for part in path.split("/")):
        raise BundleError(f"{path!r} is not a path inside the directory", where=where)
    return Checksum(path, bytes.fromhex(digest), number)
