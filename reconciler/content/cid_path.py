"""CIDs as people copy them: with a scheme, below `/ipfs/`, in the link of a gateway, and with a path.

Read are `CID/path`, `ipfs://CID/path`, `/ipfs/CID/path`, and links to gateways in both forms,
`https://HOST/ipfs/CID/path` and `https://CID.ipfs.HOST/path`. Of a link, only the CID and the path count: its
host is not contacted. Sources: the Path Gateway and Subdomain Gateway specifications; the `ipfs` URI scheme.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from reconciler.content import cid as cids
from reconciler.content.cid import Cid, UnsupportedCidError
from reconciler.errors import DataError

_BELOW_IPFS = re.compile(r"(?:(?:dweb|web\+ipfs):/*|/)ipfs/+", re.IGNORECASE)
_SCHEME = re.compile(r"(?:(?:dweb|web\+)?ipfs):/*", re.IGNORECASE)
_LINK = re.compile(r"https?://(?P<host>[^/?#]*)(?P<path>[^?#]*)", re.IGNORECASE)
_IN_HOST = re.compile(r"(?:[^@]*@)?(?P<cid>[^.:]+)\.ipfs\.", re.IGNORECASE)
_IPNS = re.compile(r"(?:(?:dweb:)?/*ipns/|ipns://)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class CidPath:
    """A CID and a path below it: names separated by slashes, "" for the CID itself."""

    cid: Cid
    path: str = ""


def parse_cid_path(text: str) -> CidPath | None:
    """Parse a CID with an optional path in one of the forms above; None for any other text.

    Raises UnsupportedCidError for a CID of another codec or hash, DataError for text in one of these forms
    that contains no CID or an invalid path.
    """
    if _IPNS.match(text):
        raise DataError(
            "it is an IPNS name, which may change, and not a CID",
            hint="resolve it first, for example with `ipfs resolve`; an index may be named by ipns://NAME",
        )
    link = _LINK.match(text)
    if link is not None:
        return _from_link(link["host"], link["path"])
    start = _BELOW_IPFS.match(text) or _SCHEME.match(text)
    if start is not None:
        rest, is_uri = text[start.end() :], ":" in start[0]
        return _split(re.split(r"[?#]", rest, maxsplit=1)[0] if is_uri else rest, encoded=is_uri)
    try:
        return _split(text, encoded=False)
    except UnsupportedCidError:
        raise
    except DataError:
        if "/" in text and _is_cid(text.partition("/")[0]):
            raise
        return None


def _from_link(host: str, path: str) -> CidPath:
    in_host = _IN_HOST.match(host)
    if in_host is not None:
        return _split(f"{in_host['cid']}{path}", encoded=True)
    below = re.match(r"/+ipfs/+", path)
    if below is None:
        raise DataError("the link has no CID after /ipfs/")
    return _split(path[below.end() :], encoded=True)


def _split(text: str, *, encoded: bool) -> CidPath:
    """Split `CID/path`. Raises DataError."""
    head, _, rest = text.partition("/")
    cid = cids.parse(head)
    if encoded and "%" in rest:
        from urllib.parse import unquote  # imported here: it slows down every other call

        rest = unquote(rest, errors="replace")
    names = [name for name in rest.split("/") if name]
    if any(name in (".", "..") or "\0" in name for name in names):
        raise DataError(f"the path {rest!r} below a CID contains '.' or '..'")
    return CidPath(cid, "/".join(names))


def _is_cid(text: str) -> bool:
    try:
        cids.parse(text)
    except DataError:
        return False
    return True
