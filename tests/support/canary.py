"""A credential that tests can find in every form in which a peer, a library or a log may write it."""

from __future__ import annotations

import base64
import json
from urllib.parse import quote, quote_plus

#: printable ASCII, valid in a header, with characters that JSON, URLs and shells escape
CANARY = 'C4nary"7%2Bplum/feather+=\\q'


def forms(canary: str = CANARY) -> dict[str, str]:
    """Return the texts that reveal `canary`, by encoding.

    Base64 is searched at its three alignments, without the characters that depend on adjacent bytes, so that
    `user:canary` in an Authorization header is found for every user.
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
    """Return the forms of the canary that `data` contains."""
    text = data.decode("utf-8", "replace") if isinstance(data, bytes) else data
    return [name for name, form in forms().items() if form in text]
