"""Git LFS pointers: the small text that a repository has in place of a large file.

    version https://git-lfs.github.com/spec/v1
    oid sha256:<64 hex digits>
    size <bytes>

Source: the specification in the git-lfs repository, docs/spec.md.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from reconciler.content.git_objects import object_id

MAX_SIZE = 1024  #: bytes of a pointer, extensions included

VERSION = "https://git-lfs.github.com/spec/v1"
_VERSIONS = (VERSION, "https://hawser.github.com/spec/v1")
_OID = re.compile(r"sha256:([0-9a-f]{64})")
_SIZE = re.compile(r"0|[1-9][0-9]{0,15}")


@dataclass(frozen=True, slots=True)
class LfsPointer:
    """The SHA-256 and the size in bytes of the file that a pointer stands for.

    `extended` is whether programs of the repository change the file after its download, which nothing here
    does.
    """

    sha256: bytes
    size: int
    extended: bool = False

    def render(self) -> bytes:
        """Return the canonical text of the pointer, without extensions."""
        return f"version {VERSION}\noid sha256:{self.sha256.hex()}\nsize {self.size}\n".encode()

    @property
    def git_blob(self) -> bytes:
        """The SHA-1 of the canonical text as a git blob."""
        return object_id("blob", self.render())


def parse_pointer(data: bytes) -> LfsPointer | None:
    """Parse a whole file as a pointer; None when it is none."""
    if len(data) >= MAX_SIZE or not data.startswith(b"version "):
        return None
    try:
        lines = data.decode().removesuffix("\n").split("\n")
    except UnicodeDecodeError:
        return None
    pairs = [line.removesuffix("\r").partition(" ") for line in lines]
    fields = {key: value for key, _, value in pairs}
    oid, size = _OID.fullmatch(fields.get("oid", "")), _SIZE.fullmatch(fields.get("size", ""))
    if fields["version"] not in _VERSIONS or len(fields) != len(pairs) or oid is None or size is None:
        return None
    extended = any(key.startswith("ext-") for key in fields)
    return LfsPointer(bytes.fromhex(oid[1]), int(size[0]), extended)
