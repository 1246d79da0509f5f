"""A credential that is easy to find again: in every form in which a peer, a library or a log may write it."""

from __future__ import annotations

import base64
import json
from urllib.parse import quote, quote_plus

#: printable ASCII, so that a header carries it, with what JSON, URLs and shells write differently
CANARY = 'C4nary"7%2Bplum/feather+=\\q'


def forms(canary: str = CANARY) -> dict[str, str]:
    """Texts that give `canary` away, by how they are written.

    Base64 is looked for at its three alignments, without the characters that its neighbours decide; so
    `user:canary`, in one Authorization header, is found whoever the user is.
    """
    found = {
        "raw": canary,
        "URL": quote(canary, safe=""),
        "URL, with slashes": quote(canary),
        "form": quote_plus(canary),
        "JSON": json.dumps(canary)[1:-1],
        "JSON in JSON": json.dumps(json.dumps(canary))[3:-3],
        "repr": repr(canary)[1:-1],
    }
    for lead in range(3):
        raw = b"\0" * lead + canary.encode()
        for name, encode in (("base64", base64.b64encode), ("base64url", base64.urlsafe_b64encode)):
            whole = encode(raw).decode().rstrip("=")
            found[f"{name} at {lead}"] = whole[0 if lead == 0 else 4 : len(whole) - (len(raw) % 3 != 0)]
    return found


def leaks(data: bytes | str) -> list[str]:
    """The forms of the canary that `data` holds."""
    text = data.decode("utf-8", "replace") if isinstance(data, bytes) else data
    return [name for name, form in forms().items() if form in text]
