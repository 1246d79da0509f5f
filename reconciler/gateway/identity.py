"""IdentityBlock CIDs: the few bytes are in the CID itself, so there is no block to look for.

Clients probe with the one of no bytes (`bafkqaaa`) whether they talk to a trustless gateway. Source: the
trustless gateway specification, "Dedicated Probe Paths".
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass

from reconciler.content import car
from reconciler.content.cid import IDENTITY, RAW
from reconciler.gateway.request import CAR_TYPE, PREFIX, RAW_TYPE, Format, RequestRefusedError
from reconciler.gateway.responses import IMMUTABLE, GatewayResponse, disposition, media_type

_START = "bafkqa"  # CIDv1, raw, identity, fewer than 128 bytes, in base32
_MAX_TEXT = 220


@dataclass(frozen=True, slots=True)
class IdentityBlock:
    """One such CID as written, in binary, and the bytes it holds."""

    text: str
    cid: bytes
    data: bytes


def parse(text: str) -> IdentityBlock | None:
    """The identity CID in a request; None for any other.

    Raises RequestRefusedError (400) for one that does not hold.
    """
    if not text.startswith(_START):
        return None
    body = text[1:]
    try:
        if len(text) > _MAX_TEXT or body != body.lower():
            raise ValueError
        cid = base64.b32decode(body.upper() + "=" * (-len(body) % 8))
    except (ValueError, binascii.Error):
        raise RequestRefusedError(400, "not a CID in base32") from None
    if cid[:3] != bytes((1, RAW, IDENTITY)) or len(cid) < 4 or cid[3] != len(cid) - 4:
        raise RequestRefusedError(400, "an identity CID of another length than its bytes have")
    return IdentityBlock(text, cid, cid[4:])


def answer(identity: IdentityBlock, wanted: Format, *, dups: bool) -> GatewayResponse:
    """The bytes as they are, as a block, or as a CAR, which never has a block for an identity CID."""
    body, etag = identity.data, f'"{identity.text}.{wanted.value}"'
    headers = {
        "Cache-Control": IMMUTABLE,
        "X-Content-Type-Options": "nosniff",
        "X-Ipfs-Path": f"{PREFIX}{identity.text}",
        "X-Ipfs-Roots": identity.text,
        "Vary": "Accept",
        "Etag": etag,
    }
    if wanted is Format.CAR:
        body = car.header(identity.cid)
        headers |= {
            "Content-Type": f"{CAR_TYPE}; version=1; order=dfs; dups={'y' if dups else 'n'}",
            "Content-Disposition": disposition("attachment", f"{identity.text}.car"),
            "Accept-Ranges": "none",
        }
    elif wanted is Format.RAW:
        headers |= {
            "Content-Type": RAW_TYPE,
            "Content-Disposition": disposition("attachment", f"{identity.text}.bin"),
        }
    else:
        headers["Content-Type"] = media_type(b"", lambda: identity.data)
    return GatewayResponse(200, headers, iter((body,)), len(body))
