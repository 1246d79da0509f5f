"""The format of `SHA256SUMS`, as `sha256sum` of GNU coreutils writes and checks it.

It is written with a line for each file: 64 hex digits, two spaces, and the path. A path with a backslash or a
line break is escaped, and its line then begins with a backslash. Lines are in C-locale order without `./`, so
the sha256 of the whole file is the `dirHash` of in-toto.

It is read in every form that `sha256sum --check` accepts: `*` for binary, one space or a tab where the file
begins with such a line, `SHA256 (path) = digest` (BSD, OpenSSL), CRLF, white space in front, comments, empty
lines, and lines in any other form (such as the signature around a signed list), which it skips. Sources: GNU
coreutils manual, "md5sum invocation" and "cksum output modes", compared with coreutils 9.1; in-toto
attestation `digest_set.md`.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from reconciler.content.bounds import NameForms
from reconciler.errors import BundleError, Where

NAME = "SHA256SUMS"
MAX_SIZE = 64 << 20  #: bytes of the largest SHA256SUMS that is read

_PLAIN = re.compile(r"([0-9A-Fa-f]{64})[ \t](.+)", re.DOTALL)
_TAGGED = re.compile(r"SHA256 ?\((.*)\)[ \t]*=[ \t]*([0-9A-Fa-f]{64})", re.DOTALL)
_ESCAPES = {"\\\\": "\\", "\\n": "\n", "\\r": "\r"}
_HINT = "write each line as `sha256sum FILE...` prints it: the digest, two spaces, the path"


@dataclass(frozen=True, slots=True)
class Checksum:
    """One line: `path`, its expected 32-byte `digest`, and the number of the line, from 1."""

    path: str
    digest: bytes
    line: int


@dataclass(frozen=True, slots=True)
class ChecksumList:
    """The lines of a SHA256SUMS, in order; a path may occur twice.

    `malformed` are the numbers of the lines in no known form, from 1.
    """

    entries: tuple[Checksum, ...]
    malformed: tuple[int, ...] = ()

    def matched(self, paths: Iterable[str]) -> ChecksumList:
        """Return the list with the path of a file in `paths` where a line has it in another Unicode form."""
        known = NameForms(paths)
        return replace(
            self, entries=tuple(replace(each, path=known.find(each.path)) for each in self.entries)
        )


def render(digests: Iterable[tuple[str, bytes]]) -> bytes:
    """Return a SHA256SUMS over pairs of path and 32-byte digest, given in any order."""
    lines = []
    for path, digest in sorted(digests, key=lambda pair: pair[0].encode()):
        escaped = path.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
        lines.append(f"{'' if escaped == path else chr(92)}{digest.hex()}  {escaped}\n")
    return "".join(lines).encode()


def parse(data: bytes) -> ChecksumList:
    """Parse a SHA256SUMS as `sha256sum --check` does.

    Raises BundleError when no line has a checksum although there are lines, when the file is UTF-16, and for
    a path outside of the directory.
    """
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise BundleError("is UTF-16, not UTF-8", hint="save it as UTF-8", where=Where(NAME))
    lines = data.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    entries: list[Checksum] = []
    malformed: list[int] = []
    one_blank: bool | None = None  # between digest and path; the first line decides for all
    for number, raw in enumerate(lines, start=1):
        line = raw.removesuffix(b"\r").decode(errors="replace")
        if not line or line.startswith("#"):
            continue
        found = _split(line.lstrip(" \t"), one_blank)
        if found is None:
            malformed.append(number)
            continue
        path, digest, blank = found
        one_blank = blank if one_blank is None else one_blank
        if path is None:
            malformed.append(number)
            continue
        entries.append(Checksum(_relative(path, number), bytes.fromhex(digest), number))
    if malformed and not entries:
        first = lines[malformed[0] - 1].decode(errors="replace")
        raise BundleError(f"malformed line: {first[:80]!r}", hint=_HINT, where=Where(NAME, malformed[0]))
    return ChecksumList(tuple(entries), tuple(malformed))


def _split(line: str, one_blank: bool | None) -> tuple[str | None, str, bool | None] | None:
    """Return path, digest, and whether one blank separates them (None for a tagged line).

    The path is None when its escapes are malformed: even such a line decides about the blanks of the next
    ones. Return None for a line in another form.
    """
    escaped = line.startswith("\\")
    text = line[1:] if escaped else line
    blank: bool | None = None
    if (tagged := _TAGGED.fullmatch(text)) is not None:
        path, digest = tagged.groups()
    elif (plain := _PLAIN.fullmatch(text)) is not None:
        digest, path = plain.groups()
        blank = len(path) == 1 or path[0] not in " *"
        if blank and one_blank is False:
            return None
        if not blank and one_blank is not True:
            path = path[1:]
        elif not blank:
            blank = True  # a path that begins with a space or an asterisk
    else:
        return None
    if escaped:
        try:
            path = re.sub(r"\\.?", lambda found: _ESCAPES[found[0]], path, flags=re.DOTALL)
        except KeyError:
            return None, digest, blank
    return path, digest, blank


def _relative(path: str, number: int) -> str:
    """Return `path` without `.`, `..` and repeated slashes. Raises BundleError when it leads outside."""
    found = posixpath.normpath(path)
    if path.startswith("/") or path.endswith("/") or found in (".", "..") or found.startswith("../"):
        raise BundleError(
            f"{path!r} is not a path inside the directory",
            hint="list files by their paths relative to the directory",
            where=Where(NAME, number),
        )
    return found
