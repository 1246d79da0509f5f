"""Parsing of the output of the official client, and classification of its failures. Pure.

The client has ended with exit code 0 without storing anything, so only its output counts, and it is parsed
strictly. All functions raise RequestError.

Source: `@storacha/cli` 1.6.32 and 2.5.0.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from reconciler.content.car import CarShard
from reconciler.content.cid import Cid
from reconciler.json_fields import JsonFields, load_json
from reconciler.net.auth import Secret
from reconciler.net.errors import (
    AccessDeniedError,
    NotFoundError,
    RequestError,
    TransientError,
    UnexpectedResponseError,
    sanitize,
)

OLDEST_NODE = 18
PINNED = "@storacha/cli@1.6.32"  #: the package that npx runs where no client is installed
INSTALL = f"install Node.js 18 or later and `npm install -g {PINNED}`, or set `cli` to the executable"
FILECOIN = "Storacha directs its users to Filecoin Onchain Cloud; the space remains readable"
DELEGATION_HINT = "run `reconcile doctor` to see what the delegation allows, and until when"

_RETRY_HINT = "run again; `reconcile doctor` checks the client and the delegation"
_MISMATCH_HINT = "the client splits the CAR differently than this program; nothing was recorded"

_CONNECTION_BROKEN = re.compile(
    r"fetch failed|other side closed|socket hang up|ECONNRE|ETIMEDOUT|EAI_AGAIN|EPIPE|UND_ERR|terminated"
)
_NODE = re.compile(r"^Node\.js v(\d{1,4})\.", re.MULTILINE)  # the last line of a stack, since Node.js 17
_NOT_STARTED = (126, 127)  # exit codes of a shell and of `env` for a program that cannot be started

_VERSION = re.compile(r"(\d+)\.(\d+)\.\d+")
_SUPPORTED_MAJORS = (1, 2)


@dataclass(frozen=True, slots=True)
class UploadResult:
    """The stored upload: the root, and the CID, size in bytes and piece of each CAR, as text."""

    root: str
    shards: frozenset[tuple[str, int, str]]


def parse_json_lines(peer: str, output: bytes) -> list[JsonFields]:
    """Parse lines of JSON, each of which ends in a newline; empty lines are left out."""

    def unexpected(message: str) -> UnexpectedResponseError:
        return UnexpectedResponseError(
            peer, f"unexpected output of the storacha command: {message}", hint=_RETRY_HINT
        )

    if output and not output.endswith(b"\n"):
        raise unexpected("it ends in the middle of a line")
    found = []
    for line in output.splitlines():
        if not line.strip():
            continue
        try:
            found.append(JsonFields(load_json(line), unexpected))
        except ValueError:
            shown = sanitize(line.decode("utf-8", "replace"), limit=80)
            raise unexpected(f"{shown!r} instead of JSON") from None
    return found


def read_link(fields: JsonFields, *names: str) -> str:
    """Return the CID of a DAG-JSON link (`{"/": "<cid>"}`) as text. Raises the error of `fields`."""
    value = fields.at(*names).value
    cid = value.get("/") if isinstance(value, dict) else None
    if not isinstance(cid, str):
        raise fields.error("a link to a CID", *names)
    return cid


def parse_upload(peer: str, output: bytes) -> UploadResult:
    """Parse the output of `up --json --verbose`: one line for each CAR, and the root in the last line."""
    shards = set()
    root = ""
    for line in parse_json_lines(peer, output):
        if root:
            raise line.fail("a line follows the root")
        if "root" in line.mapping():
            root = read_link(line, "root")
        else:
            shards.add((read_link(line, "shard"), line.number("size"), read_link(line, "piece")))
    if not root:
        raise UnexpectedResponseError(
            peer, "the storacha command reported success but stored nothing", hint=_RETRY_HINT
        )
    return UploadResult(root, frozenset(shards))


def check_upload(peer: str, result: UploadResult, root: Cid, shards: Sequence[CarShard]) -> None:
    """Raise UnexpectedResponseError, which names both, unless the client stored this root and these CARs."""
    if result.root != str(root):
        raise UnexpectedResponseError(
            peer, f"stored the root {sanitize(result.root)} instead of {root}", hint=_MISMATCH_HINT
        )
    ours = {(str(each.cid), each.size, str(each.piece)) for each in shards}
    if result.shards != ours:
        stored, expected = _describe(result.shards - ours), _describe(ours - result.shards)
        raise UnexpectedResponseError(peer, f"stored {stored} instead of {expected}", hint=_MISMATCH_HINT)


def _describe(shards: Iterable[tuple[str, int, str]]) -> str:
    """Name the first CAR in the order of their CIDs."""
    first = min(shards, default=None)
    if first is None:
        return "no other CAR"
    cid, size, piece = first
    return f"the CAR {sanitize(cid)} ({size} bytes, piece {sanitize(piece)})"


def parse_version(peer: str, output: bytes) -> str:
    """Return the version in the output of `--version`. Raises for a version that is not supported."""
    text = output.decode("utf-8", "replace")
    match = _VERSION.search(text)
    if match is None or "storacha" not in text:
        raise UnexpectedResponseError(
            peer, f"{sanitize(text, limit=80)!r} is not the version of a storacha command", hint=INSTALL
        )
    if int(match[1]) not in _SUPPORTED_MAJORS:
        raise UnexpectedResponseError(
            peer, f"storacha version {match[0]} is not supported; 1.x and 2.x are", hint=INSTALL
        )
    return match[0]


def classify_failure(peer: str, code: int, stderr: str, secrets: Sequence[Secret]) -> RequestError:
    """Return the error for a client that ended with exit code `code`, from the stack that Node.js prints.

    NotFoundError when the service does not know what the command is about, such as a piece.
    """
    if "capability is currently disabled" in stderr:
        return AccessDeniedError(peer, "this service refuses writes", hint=FILECOIN)
    reason = _reason(stderr, secrets)
    node = _NODE.search(stderr)
    if node is not None and int(node[1]) < OLDEST_NODE:
        message = f"the storacha command failed on Node.js {node[1]}, which is too old: {reason}"
        return UnexpectedResponseError(peer, message, hint=INSTALL)
    if code in _NOT_STARTED:
        message = f"the storacha command cannot be started: {reason}"
        return UnexpectedResponseError(peer, message, hint=INSTALL)
    if _CONNECTION_BROKEN.search(stderr):
        return TransientError(peer, f"the connection of the storacha command broke ({reason})")
    if "Unauthorized" in stderr or "UnavailableProof" in stderr:
        return AccessDeniedError(peer, f"the delegation does not allow this ({reason})", hint=DELEGATION_HINT)
    message = f"the storacha command failed with exit code {code}: {reason}"
    if "not found" in reason:
        return NotFoundError(peer, message, hint=_RETRY_HINT)
    return UnexpectedResponseError(peer, message, hint=_RETRY_HINT)


def _reason(stderr: str, secrets: Sequence[Secret]) -> str:
    """Return the most specific line of a stack: the message of the innermost cause, or of the error."""
    causes = re.findall(r"message: '([^'\n]+)'", stderr)
    errors = re.findall(r"^\s*(?:\[cause\]: )?\w*(?:Error|Failure)\w*: (.+)$", stderr, re.MULTILINE)
    lines = [line for line in stderr.splitlines() if line.strip() and not line.lstrip().startswith("at ")]
    found = causes[-1:] or errors[-1:] or lines[-1:]
    return sanitize(found[0], secrets, 200) if found else "no reason printed"
