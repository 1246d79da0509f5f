"""What the client prints, read strictly: it has ended with exit code 0 and done nothing before.

Source: `@storacha/cli` 1.6.32 and 2.5.0. Pure; all raise RequestError.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from reconciler.content.car import CarShard
from reconciler.content.cid import Cid
from reconciler.net.auth import Secret
from reconciler.net.errors import (
    AccessDeniedError,
    RequestError,
    TransientError,
    UnexpectedResponseError,
    sanitize,
)
from reconciler.targets import fields
from reconciler.targets.storacha.wire import link

FILECOIN = "Filecoin Onchain Cloud is where Storacha sends its users; what is in the space stays readable"
_BROKEN_OFF = re.compile(
    r"fetch failed|other side closed|socket hang up|ECONNRE|ETIMEDOUT|EAI_AGAIN|EPIPE|UND_ERR|terminated"
)
_NODE = re.compile(r"^Node\.js v(\d{1,4})\.", re.MULTILINE)  # the last line of its stacks, since 17
_NOT_STARTED = (126, 127)  # what a shell and `env` say of a program that is not there
OLDEST_NODE = 18

_VERSION = re.compile(r"(\d+)\.(\d+)\.\d+")
_MAJORS = (1, 2)


@dataclass(frozen=True, slots=True)
class Stored:
    """What an upload came to: its root, and each CAR with its size and piece, all as text."""

    root: str
    shards: frozenset[tuple[str, int, str]]


def documents(peer: str, printed: bytes) -> list[object]:
    """Lines of JSON, all of them whole; empty ones are left out."""
    if printed and not printed.endswith(b"\n"):
        raise UnexpectedResponseError(
            peer, "the storacha command broke off in the middle of a line", hint=_AGAIN
        )
    found = []
    for line in printed.splitlines():
        if not line.strip():
            continue
        try:
            found.append(json.loads(line))
        except ValueError:
            said = sanitize(line.decode("utf-8", "replace"), limit=80)
            raise UnexpectedResponseError(
                peer, f"the storacha command printed {said!r} instead of JSON", hint=_AGAIN
            ) from None
    return found


def read_stored(peer: str, printed: bytes) -> Stored:
    """The output of `up --json --verbose`: one line for each CAR, and the root in the last one."""
    shards = set()
    root = ""
    for value in documents(peer, printed):
        line = fields.record(peer, value, "a line of `storacha up`")
        if root:
            raise UnexpectedResponseError(
                peer, "the storacha command printed more than it should", hint=_AGAIN
            )
        if "root" in line:
            root = link(peer, line["root"], "an upload")
        else:
            shard, piece = link(peer, line.get("shard"), "a CAR"), link(peer, line.get("piece"), "a piece")
            shards.add((shard, fields.number(peer, line, "size"), piece))
    if not root:
        raise UnexpectedResponseError(
            peer, "the storacha command ended as if all were well, and stored nothing", hint=_AGAIN
        )
    return Stored(root, frozenset(shards))


def compare(peer: str, stored: Stored, root: Cid, shards: Sequence[CarShard]) -> None:
    """Raise UnexpectedResponseError, naming both, unless what was stored is what our bytes give."""
    if stored.root != str(root):
        raise UnexpectedResponseError(
            peer, f"stored the root {sanitize(stored.root)} instead of {root}", hint=_REPORT
        )
    ours = {(str(each.cid), each.size, str(each.piece)) for each in shards}
    if stored.shards == ours:
        return
    theirs = sorted(stored.shards - ours) or [("nothing", 0, "nothing")]
    wanted = sorted(ours - stored.shards) or [("nothing", 0, "nothing")]
    raise UnexpectedResponseError(
        peer,
        f"stored the CAR {sanitize(theirs[0][0])} ({theirs[0][1]} bytes, piece {sanitize(theirs[0][2])}) "
        f"where our bytes give {wanted[0][0]} ({wanted[0][1]} bytes, piece {wanted[0][2]})",
        hint=_REPORT,
    )


def check_version(peer: str, printed: bytes) -> str:
    """The version in the output of `--version`, one that we can work with."""
    said = printed.decode("utf-8", "replace")
    match = _VERSION.search(said)
    if match is None or "storacha" not in said:
        raise UnexpectedResponseError(
            peer, f"{sanitize(said, limit=80)!r} is not the version of a storacha command", hint=INSTALL
        )
    if int(match[1]) not in _MAJORS:
        raise UnexpectedResponseError(
            peer, f"storacha {match[0]} is none of the versions that work (1.x and 2.x)", hint=INSTALL
        )
    return match[0]


def failure(peer: str, code: int, stderr: str, secrets: Sequence[Secret]) -> RequestError:
    """Why the client ended with `code`, from the stack that Node prints."""
    if "capability is currently disabled" in stderr:
        return AccessDeniedError(peer, "this service refuses writes", hint=FILECOIN)
    said = _reason(stderr, secrets)
    node = _NODE.search(stderr)
    if node is not None and int(node[1]) < OLDEST_NODE:
        message = f"the storacha command failed on Node.js {node[1]}, which is too old: {said}"
        return UnexpectedResponseError(peer, message, hint=INSTALL)
    if code in _NOT_STARTED:
        return UnexpectedResponseError(peer, f"the storacha command cannot be started: {said}", hint=INSTALL)
    if _BROKEN_OFF.search(stderr):
        return TransientError(peer, f"the connection of the storacha command broke ({said})")
    if "Unauthorized" in stderr or "UnavailableProof" in stderr:
        hint = "`reconcile doctor` says what the delegation allows, and until when"
        return AccessDeniedError(peer, f"the delegation does not allow this ({said})", hint=hint)
    return UnexpectedResponseError(
        peer, f"the storacha command failed with exit code {code}: {said}", hint=_AGAIN
    )


def _reason(stderr: str, secrets: Sequence[Secret]) -> str:
    """The most telling line of a stack: the innermost cause, or an error's own."""
    causes = re.findall(r"message: '([^'\n]+)'", stderr)
    errors = re.findall(r"^\s*(?:\[cause\]: )?\w*(?:Error|Failure)\w*: (.+)$", stderr, re.MULTILINE)
    lines = [line for line in stderr.splitlines() if line.strip() and not line.lstrip().startswith("at ")]
    found = causes[-1:] or errors[-1:] or lines[-1:]
    return sanitize(found[0], secrets, 200) if found else "it says nothing"


PINNED = "@storacha/cli@1.6.32"  #: what npx is told to run where no client is installed
INSTALL = f"install Node.js 18 or later and `npm install -g {PINNED}`, or name the executable as `cli`"
_AGAIN = "run again; `reconcile doctor` looks at the client and at the delegation"
_REPORT = "the client cuts CARs in another way than this program; nothing was recorded"
