"""The calls of Kubo's RPC API that this target makes, and the parsing of their responses.

Kubo reports an error either as a status with `{"Message", "Code", "Type": "error"}`, when the command failed,
or, once it has begun to respond, in an HTTP trailer that no client and no proxy passes on. Therefore only
calls that respond in one piece are made here, or such whose missing end is harmless, and a status of 200
proves nothing. Source: kubo
`core/commands`, go-ipfs-cmds `http/`; the responses were taken from running daemons.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote_plus

from reconciler.content import car, profile
from reconciler.content import cid as cids
from reconciler.content.cid import Cid
from reconciler.errors import DataError
from reconciler.json_fields import JsonFields, load_json
from reconciler.net.client import HttpClient, Params
from reconciler.net.errors import (
    AccessDeniedError,
    NotFoundError,
    RejectedError,
    TransientError,
    UnexpectedResponseError,
)
from reconciler.net.response import Response, UploadBody, multipart_file, peer_fields
from reconciler.net.retry import RetryPolicy


class WrongBytesError(Exception):
    """The bytes that the node has under a CID do not match the CID."""


class LostReferenceError(WrongBytesError):
    """The node has a reference under a CID, to a file that was changed or is gone."""


@dataclass(frozen=True, slots=True)
class NodePin:
    """One recursive pin; `name` is "" when it has none. `root` is None for a CID that we do not support.

    `canonical` is False for a pin on the CIDv0 of a root, which for Kubo is another pin than the one on its
    CIDv1.
    """

    text: str
    root: Cid | None
    name: str
    canonical: bool


@dataclass(frozen=True, slots=True)
class DagStat:
    """The number of unique blocks under a root, and their bytes."""

    blocks: int
    size: int


@dataclass(frozen=True, slots=True)
class RepoStat:
    """The bytes in the repository, and its `StorageMax`, which Kubo does not enforce."""

    size: int
    maximum: int


@dataclass(frozen=True, slots=True)
class NodeCommand:
    """One command that runs on the node; `started` is RFC 3339 text by the clock of the node."""

    name: str
    started: str
    active: bool


@dataclass(frozen=True, slots=True)
class NodeId:
    """The identity of the node; it has no addresses while it is offline."""

    peer_id: str
    agent: str
    addresses: tuple[str, ...]


def _read_object(peer: str, value: object) -> JsonFields:
    """Return `value` as fields. Raises UnexpectedResponseError unless it is a JSON object."""
    fields = peer_fields(peer, value)
    fields.mapping()
    return fields


def read_pins(peer: str, answer: Response) -> tuple[NodePin, ...]:
    """Parse a response to `pin/ls`; `{}` means no pins."""
    listed = _read_object(peer, answer.json()).at("Keys").value
    found = []
    for text, entry in listed.items() if isinstance(listed, dict) else ():
        named = _read_object(peer, entry).text_or("", "Name")
        try:
            root: Cid | None = cids.parse(text)
        except DataError:
            root = None
        found.append(NodePin(text, root, named, canonical=root is not None and not cids.is_v0(text)))
    return tuple(found)


def read_commands(peer: str, answer: object) -> tuple[NodeCommand, ...]:
    """Parse a response to `diag/cmds`, oldest command first."""
    listed = answer if isinstance(answer, list) else []
    found = [_read_object(peer, entry) for entry in listed]
    return tuple(
        NodeCommand(
            name=entry.text_or("", "Command"),
            started=entry.text_or("", "StartTime"),
            active=entry.at("Active").value is True,
        )
        for entry in found
    )


_PREFIX = "/api/v0/"
_PROFILE = [
    ("cid-version", "1"),
    ("hash", "sha2-256"),
    ("raw-leaves", "true"),
    ("chunker", f"size-{profile.CHUNK_SIZE}"),
    ("max-file-links", str(profile.MAX_LINKS)),
    ("trickle", "false"),
    ("inline", "false"),
    ("pin", "false"),
    ("progress", "false"),
    ("fast-provide-root", "false"),
]
_PINS_LIMIT = 512 << 20  # bytes; about four million pins
_BLOCK_LIMIT = 16 << 20  # bytes; a damaged block may be longer than any block is
_SLOWEST_READ = 16 << 20  # bytes a second at which a node reads its own blocks before it responds
_FLUSHING = 60.0  # seconds in which a node writes out the end of an import
_WRONG_SIZE = -1  # of a block that the node itself finds damaged
_NOT_HERE = "block was not found locally"
_WRONG_HASH = "different hash than requested"  # with Datastore.HashOnRead
_LOST_REFERENCE = ("data in file did not match", "no such file or directory")
_NOT_PINNED = ("is not pinned", "not pinned or pinned indirectly")
_FULL = ("no space left on device", "disk quota exceeded")
_TIMED_OUT = "context deadline exceeded"


def is_command_error(answer: Response) -> bool:
    """Return whether the node executed the command and it failed, so that it must not be sent again."""
    return answer.status in (400, 500) and b'"Type":"error"' in answer.body


class KuboRpc:
    """One node. Every call may be repeated. Raises RequestError."""

    def __init__(self, http: HttpClient) -> None:
        self.http = http

    @property
    def name(self) -> str:
        """The name of the node for the user."""
        return self.http.name

    def pins(self) -> tuple[NodePin, ...]:
        """List every recursive pin, in one request. Without `type` Kubo would list every block."""
        answer = self._call("pin/ls", [("type", "recursive"), ("names", "true")], limit=_PINS_LIMIT)
        return read_pins(self.name, answer)

    def pin_name(self, root: Cid, *, v0: bool = False) -> str | None:
        """Return the name of the recursive pin on `root`, "" if it has no name; None when there is no pin.

        With `v0`, of the pin on its CIDv0, which is another pin.
        """
        text = cids.v0_text(root) if v0 else str(root)
        if text is None:
            return None
        try:
            answer = self._call("pin/ls", [("arg", text), ("type", "recursive"), ("names", "true")])
        except RejectedError as error:
            if _NOT_PINNED[0] in error.reason:
                return None
            raise
        return next((pin.name for pin in read_pins(self.name, answer) if pin.root == root), None)

    def pin_add(self, root: Cid, name: str, seconds: int) -> bool:
        """Pin `root` recursively under `name`, within `seconds`; return False when a block is missing.

        Call it only for a DAG that was proven complete: an online node waits for missing blocks from the
        network, and a garbage collection that waits for that pin blocks every later import. Raises
        UnexpectedResponseError when it takes longer.
        """
        params = [("arg", str(root)), ("name", name), ("timeout", f"{seconds}s")]
        try:
            self._call("pin/add", params, patience=seconds)
        except RejectedError as error:
            if _NOT_HERE in error.reason:
                return False
            if _TIMED_OUT in error.reason:
                raise UnexpectedResponseError(
                    self.name,
                    f"did not pin {root} within {seconds} s",
                    hint="raise pin_timeout, or list the running commands with `ipfs diag cmds`",
                ) from None
            raise
        return True

    def pin_rm(self, root: Cid, *, v0: bool = False) -> None:
        """Remove the recursive pin on `root`, or with `v0` on its CIDv0; does nothing when there is none."""
        text = cids.v0_text(root) if v0 else str(root)
        try:
            self._call("pin/rm", [("arg", text or "")])
        except RejectedError as error:
            if _NOT_PINNED[1] not in error.reason:
                raise

    def block_size(self, cid: Cid) -> int | None:
        """Return the size of a block on the node; None when it is missing.

        A miss also clears the node's cache entry for the block; otherwise an import would skip the block.
        """
        try:
            answer = self._call("block/stat", [("arg", str(cid)), ("offline", "true")])
        except RejectedError as error:
            if _NOT_HERE in error.reason:
                return None
            if any(sign in error.reason for sign in (_WRONG_HASH, *_LOST_REFERENCE)):
                return _WRONG_SIZE
            raise
        return _read_object(self.name, answer.json()).number_or(0, "Size")

    def block_get(self, cid: Cid) -> bytes | None:
        """Read and verify a block; None when the node does not have it.

        Raises WrongBytesError when the node has other bytes under `cid`, LostReferenceError when it refers to
        a file without these bytes. A response that was replaced or truncated on its way (a web page, fewer
        bytes than the node has) proves nothing about the block and raises UnexpectedResponseError or
        TransientError.
        """
        try:
            answer = self._call("block/get", [("arg", str(cid)), ("offline", "true")], limit=_BLOCK_LIMIT)
        except RejectedError as error:
            if _NOT_HERE in error.reason:
                return None
            if _WRONG_HASH in error.reason:
                raise WrongBytesError from None
            if any(sign in error.reason for sign in _LOST_REFERENCE):
                raise LostReferenceError from None
            raise
        if cid.matches(answer.body):
            return answer.body
        if answer.headers.get("content-type", "").startswith("text/html"):
            raise UnexpectedResponseError(self.name, "answered with a web page instead of a block")
        size = self.block_size(cid)
        if size is not None and size not in (len(answer.body), _WRONG_SIZE):
            raise TransientError(self.name, f"sent {len(answer.body)} of the {size} bytes of block {cid}")
        raise WrongBytesError

    def look_up(self, strangers: Sequence[Cid]) -> None:
        """Make the node look up `strangers`, random CIDs that do not exist, in its own blocks.

        This fills its cache of present blocks with other entries (see heal.py). Nothing is stored or pinned.
        """
        body = car.header_of(strangers)
        upload = multipart_file("blocks.car", UploadBody(len(body), lambda: iter((body,))))
        self._call("dag/import", [("pin-roots", "true")], content=upload)

    def dag_import(self, upload: UploadBody, retry: RetryPolicy | None = None) -> DagStat:
        """Import the blocks of a CAR without pinning anything; return how many blocks the node received.

        It hashed each of them. It does not write those that it believes to have, so the number proves only
        that blocks are present which it was just found to lack. `retry` replaces the policy of the client.
        Raises UnexpectedResponseError when the node's disk is full.
        """
        answer = self._upload("dag/import", [("pin-roots", "false"), ("stats", "true")], upload, retry)
        for line in answer.body.splitlines():
            with suppress(ValueError):
                stats = _read_object(self.name, load_json(line)).at("Stats")
                if isinstance(stats.value, dict):
                    return DagStat(stats.number_or(0, "BlockCount"), stats.number_or(0, "BlockBytesCount"))
        return DagStat(0, 0)

    def add_file(
        self, upload: UploadBody, path: Path | None = None, retry: RetryPolicy | None = None
    ) -> Cid | None:
        """Have the node make the blocks of a file by the profile, without a pin; return the root.

        With `path`, the node keeps references to the file at that path, which has these bytes, in place of
        leaves. None when the response names no root. Every parameter of the profile is sent, because the
        node's own configuration would apply otherwise. `retry` replaces the policy of the client. Raises
        AccessDeniedError where `add` is not permitted, and UnexpectedResponseError when the node's disk is
        full, or when it does not keep references.
        """
        if path is None:
            answer = self._upload("add", _PROFILE, upload, retry)
        else:
            headers = {"abspath-encoded": quote_plus(os.fsencode(path))}
            try:
                answer = self._upload("add", [*_PROFILE, ("nocopy", "true")], upload, retry, headers)
            except RejectedError as error:
                raise self._without_references(error) or error from None
        for line in answer.body.splitlines():
            with suppress(ValueError, DataError):
                return cids.parse(_read_object(self.name, load_json(line)).text_or("", "Hash"))
        return None

    def _without_references(self, error: RejectedError) -> UnexpectedResponseError | None:
        """Return the error for a node that keeps no references to files, or not to these."""
        if "filestore" in error.reason and "enabled" in error.reason:
            hint = (
                "run `ipfs config --json Experimental.FilestoreEnabled true` on the node and restart it,"
                " or remove nocopy from the target"
            )
            return UnexpectedResponseError(self.name, "does not keep references to files", hint=hint)
        if "outside ipfs root" in error.reason:
            place = error.reason.rpartition("(")[2].rstrip(")")
            hint = f"move them below {place!r}, or the node's repository above them; or remove nocopy"
            return UnexpectedResponseError(
                self.name, "only keeps references to files below the directory of its repository", hint=hint
            )
        return None

    def _upload(
        self,
        command: str,
        params: Params,
        upload: UploadBody,
        retry: RetryPolicy | None,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        body = multipart_file("data", upload, headers=headers)
        try:
            return self._call(command, params, content=body, patience=_FLUSHING, retry=retry)
        except RejectedError as error:
            if any(sign in error.reason for sign in _FULL):
                hint = "free space on the disk of the node and run again; written blocks are not sent again"
                raise UnexpectedResponseError(
                    self.name, "its disk is full: no space left on device", hint=hint
                ) from None
            raise

    def dag_stat(self, root: Cid, expected_size: int) -> DagStat | None:
        """Count all unique blocks under `root` by reading them; None when one is missing.

        `expected_size`, in bytes, determines the time limit: the node responds when it has read everything.
        """
        params = [("arg", str(root)), ("offline", "true"), ("progress", "false")]
        try:
            answer = self._call("dag/stat", params, patience=expected_size / _SLOWEST_READ)
        except RejectedError as error:
            if _NOT_HERE in error.reason or "error traversing DAG" in error.reason:
                return None
            raise
        entries = list(_read_object(self.name, answer.json()).items_or_none("DagStats"))
        if len(entries) != 1:
            return None
        return DagStat(entries[0].number_or(0, "NumBlocks"), entries[0].number_or(0, "Size"))

    def leaf_sizes(self, leaves: Sequence[Cid]) -> dict[Cid, int] | None:
        """Return the sizes of several raw leaves, which the node reads for it; None when one is missing."""
        params = [*(("arg", str(leaf)) for leaf in leaves), ("offline", "true"), ("progress", "false")]
        try:
            answer = self._call("dag/stat", params)
        except RejectedError:
            return None
        entries = _read_object(self.name, answer.json()).items_or_none("DagStats")
        return {cids.parse(entry.text("Cid")): entry.number_or(0, "Size") for entry in entries}

    def missing_leaves(self, leaves: Sequence[Cid], size: int) -> set[Cid] | None:
        """Return which of several raw leaves are missing; None when the node does not permit `refs`.

        A miss also clears the node's cache entry. The node reads the leaves that it has, `size` bytes
        altogether. A response that ends early names too few of them, so it proves no block present.
        """
        params = [*(("arg", str(leaf)) for leaf in leaves), ("offline", "true")]
        try:
            answer = self._call("refs", params, patience=size / _SLOWEST_READ)
        except (AccessDeniedError, NotFoundError, RejectedError):
            return None
        named = set()
        for line in answer.body.splitlines():
            with suppress(ValueError):  # a line that was cut off
                error = _read_object(self.name, load_json(line)).text_or("", "Err")
                if _NOT_HERE in error:
                    named.add(error.split()[-1])
        return {leaf for leaf in leaves if str(leaf) in named}

    @contextmanager
    def dag_export(self, root: Cid, size: int) -> Iterator[Iterator[bytes]]:
        """Stream the CAR of `root`, which has `size` bytes.

        A missing or damaged block ends the CAR early and without an error.
        """
        params = [("arg", str(root)), ("offline", "true"), ("progress", "false")]
        total = self.http.timeouts.total + size / _SLOWEST_READ
        with self.http.stream(
            "POST", _PREFIX + "dag/export", params=params, repeatable=True, total=total
        ) as answer:
            yield answer.pieces(size + 1)

    def repo_stat(self) -> RepoStat:
        """Return the size of the repository and its maximum."""
        answer = self._call("repo/stat", [("size-only", "true")])
        fields = _read_object(self.name, answer.json())
        return RepoStat(fields.number_or(0, "RepoSize"), fields.number_or(0, "StorageMax"))

    def commands(self) -> tuple[NodeCommand, ...]:
        """List the running commands, including this one, oldest first."""
        return read_commands(self.name, self._call("diag/cmds", []).json())

    def identity(self) -> NodeId:
        """Return the identity of the node."""
        fields = _read_object(self.name, self._call("id", []).json())
        return NodeId(fields.text_or("", "ID"), fields.text_or("", "AgentVersion"), fields.texts("Addresses"))

    def version(self) -> str:
        """Return the version of the node, such as 0.43.0."""
        answer = self._call("version", [])
        return _read_object(self.name, answer.json()).text_or("", "Version")

    def _call(
        self,
        command: str,
        params: Params,
        *,
        content: UploadBody | None = None,
        limit: int = 64 << 20,
        patience: float = 0.0,
        retry: RetryPolicy | None = None,
    ) -> Response:
        """Call `command`. `patience` are seconds that the node may work before it responds, beyond the limits
        of the client, whose policy `retry` replaces.
        """
        return self.http.request(
            "POST",
            _PREFIX + command,
            params=params,
            content=content,
            repeatable=True,
            limit=limit,
            silence=self.http.timeouts.silence + patience,
            total=self.http.timeouts.total + patience,
            retry=retry,
        )
