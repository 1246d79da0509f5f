"""The calls of Kubo's RPC API that this target makes, and what their answers really mean.

Kubo reports an error either as a status with `{"Message", "Code", "Type": "error"}`, which is its considered
no, or, once it has begun to answer, in an HTTP trailer that no client and no proxy passes on. So only calls
that answer in one piece are made here, and nothing is believed because of a 200. Source: kubo
`core/commands`, go-ipfs-cmds `http/`; the answers were taken from running daemons.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from reconciler.content import cid as cids
from reconciler.content.cid import Cid
from reconciler.net.client import HttpClient, Params
from reconciler.net.errors import RejectedError, TransientError, UnexpectedResponseError
from reconciler.net.response import Response, UploadBody, multipart_file
from reconciler.targets import fields
from reconciler.targets.kubo.answers import (
    DagStat,
    NodeCommand,
    NodeId,
    NodePin,
    RepoStat,
    WrongBytesError,
    read_commands,
    read_pins,
)

_PREFIX = "/api/v0/"
_PINS_LIMIT = 512 << 20  # bytes; about four million pins
_BLOCK_LIMIT = 16 << 20  # bytes; a damaged block may be longer than any block is
_SLOWEST_READ = 16 << 20  # bytes a second at which a node reads its own blocks while it says nothing
_FLUSHING = 60.0  # seconds in which a node writes out the end of an import
_WRONG_SIZE = -1  # of a block that the node itself finds damaged
_NOT_HERE = "block was not found locally"
_WRONG_HASH = "different hash than requested"  # with Datastore.HashOnRead
_NOT_PINNED = ("is not pinned", "not pinned or pinned indirectly")
_FULL = ("no space left on device", "disk quota exceeded")
_TIMED_OUT = "context deadline exceeded"


def is_command_error(answer: Response) -> bool:
    """Whether an error answer comes from the command itself, so that asking again changes nothing."""
    return answer.status in (400, 500) and b'"Type":"error"' in answer.body


class KuboRpc:
    """One node. Every call may be repeated. Raises RequestError."""

    def __init__(self, http: HttpClient) -> None:
        self.http = http

    @property
    def name(self) -> str:
        """The node's name for the user."""
        return self.http.name

    def pins(self) -> tuple[NodePin, ...]:
        """Every recursive pin, in one request. `type` matters: without it Kubo lists every block."""
        answer = self._call("pin/ls", [("type", "recursive"), ("names", "true")], limit=_PINS_LIMIT)
        return read_pins(self.name, answer)

    def pin_name(self, root: Cid) -> str | None:
        """The name of the recursive pin on `root` ("" without one), None when there is no such pin."""
        try:
            answer = self._call("pin/ls", [("arg", str(root)), ("type", "recursive"), ("names", "true")])
        except RejectedError as error:
            if _NOT_PINNED[0] in error.reason:
                return None
            raise
        return next((pin.name for pin in read_pins(self.name, answer) if pin.root == root), None)

    def pin_add(self, root: Cid, name: str, seconds: int) -> bool:
        """Pin `root` recursively under `name`, within `seconds`; False when a block turned out to be missing.

        Only for a DAG that was proven complete: on an online node everything else waits for the network, and
        one garbage collection behind it blocks every later import. Raises UnexpectedResponseError when it
        took too long.
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
                    hint="raise pin_timeout, or look at what the node is busy with: `ipfs diag cmds`",
                ) from None
            raise
        return True

    def pin_rm(self, root: Cid) -> None:
        """Take away the recursive pin on `root`; no error when there is none."""
        try:
            self._call("pin/rm", [("arg", str(root))])
        except RejectedError as error:
            if _NOT_PINNED[1] not in error.reason:
                raise

    def block_size(self, cid: Cid) -> int | None:
        """The bytes of a block as the node has it, None when it does not.

        A miss also clears the node's belief that it has the block, without which an import would skip it.
        """
        try:
            answer = self._call("block/stat", [("arg", str(cid)), ("offline", "true")])
        except RejectedError as error:
            if _NOT_HERE in error.reason:
                return None
            if _WRONG_HASH in error.reason:
                return _WRONG_SIZE
            raise
        return fields.number(self.name, fields.record(self.name, answer.json(), "a block's size"), "Size")

    def block_get(self, cid: Cid) -> bytes | None:
        """The verified bytes of a block; None when the node does not have it.

        Raises WrongBytesError when the node has other bytes under `cid`. Bytes that were only lost or
        replaced on their way (a web page, fewer than the node has) say nothing about the block: they are
        UnexpectedResponseError or TransientError.
        """
        try:
            answer = self._call("block/get", [("arg", str(cid)), ("offline", "true")], limit=_BLOCK_LIMIT)
        except RejectedError as error:
            if _NOT_HERE in error.reason:
                return None
            if _WRONG_HASH in error.reason:
                raise WrongBytesError from None
            raise
        if cid.matches(answer.body):
            return answer.body
        if answer.headers.get("content-type", "").startswith("text/html"):
            raise UnexpectedResponseError(self.name, "answered with a web page instead of a block")
        size = self.block_size(cid)
        if size is not None and size not in (len(answer.body), _WRONG_SIZE):
            raise TransientError(self.name, f"sent {len(answer.body)} of the {size} bytes of block {cid}")
        raise WrongBytesError

    def block_rm(self, wanted: Sequence[Cid]) -> dict[Cid, str]:
        """Remove blocks.

        What keeps those that could not be removed, in Kubo's words. Missing ones are no error.
        """
        params = [("arg", str(cid)) for cid in wanted]
        kept: dict[Cid, str] = {}
        for line in self._call("block/rm", params).json_lines():
            entry = fields.record(self.name, line, "a removed block")
            why = fields.text(self.name, entry, "Error")
            if why and "could not find" not in why:
                kept[cids.parse(fields.text(self.name, entry, "Hash"))] = why
        return kept

    def dag_import(self, upload: UploadBody) -> None:
        """Take in the blocks of a CAR, and pin nothing.

        The number of blocks in the answer is that of the CAR, not of what was written, so it proves nothing.
        Raises UnexpectedResponseError when the node's disk is full.
        """
        body = multipart_file("blocks.car", upload)
        params = [("pin-roots", "false"), ("stats", "true")]
        try:
            self._call("dag/import", params, content=body, patience=_FLUSHING)
        except RejectedError as error:
            if any(sign in error.reason for sign in _FULL):
                hint = "make room on the node's disk and run again; what was written is not sent again"
                raise UnexpectedResponseError(
                    self.name, "its disk is full: no space left on device", hint=hint
                ) from None
            raise

    def dag_stat(self, root: Cid, expected_size: int) -> DagStat | None:
        """All unique blocks under `root`, counted by reading them; None when one is missing.

        `expected_size`, in bytes, is for the time limit: the node says nothing until it has read everything.
        """
        params = [("arg", str(root)), ("offline", "true"), ("progress", "false")]
        try:
            answer = self._call("dag/stat", params, patience=expected_size / _SLOWEST_READ)
        except RejectedError as error:
            if _NOT_HERE in error.reason or "error traversing DAG" in error.reason:
                return None
            raise
        entries = fields.items(self.name, fields.record(self.name, answer.json(), "a DAG's size"), "DagStats")
        if len(entries) != 1:
            return None
        entry = fields.record(self.name, entries[0], "a DAG's size")
        return DagStat(fields.number(self.name, entry, "NumBlocks"), fields.number(self.name, entry, "Size"))

    def leaf_sizes(self, leaves: Sequence[Cid]) -> dict[Cid, int] | None:
        """The bytes of several raw leaves in one request, which makes the node read them; None when one is
        missing.
        """
        params = [*(("arg", str(leaf)) for leaf in leaves), ("offline", "true"), ("progress", "false")]
        try:
            answer = self._call("dag/stat", params)
        except RejectedError:
            return None
        entries = fields.items(self.name, fields.record(self.name, answer.json(), "sizes"), "DagStats")
        found = [fields.record(self.name, entry, "a size") for entry in entries]
        return {
            cids.parse(fields.text(self.name, entry, "Cid")): fields.number(self.name, entry, "Size")
            for entry in found
        }

    @contextmanager
    def dag_export(self, root: Cid, size: int) -> Iterator[Iterator[bytes]]:
        """The CAR of `root` as it comes, of `size` bytes when all is well. A missing or damaged block ends it
        early, without any error: only its own end tells.
        """
        params = [("arg", str(root)), ("offline", "true"), ("progress", "false")]
        total = self.http.timeouts.total + size / _SLOWEST_READ
        with self.http.stream(
            "POST", _PREFIX + "dag/export", params=params, repeatable=True, total=total
        ) as answer:
            yield answer.pieces(size + 1)

    def repo_stat(self) -> RepoStat:
        """How full the repository is."""
        answer = fields.record(self.name, self._call("repo/stat", [("size-only", "true")]).json(), "a size")
        return RepoStat(
            fields.number(self.name, answer, "RepoSize"), fields.number(self.name, answer, "StorageMax")
        )

    def commands(self) -> tuple[NodeCommand, ...]:
        """What runs on the node, this call included, oldest first."""
        return read_commands(self.name, self._call("diag/cmds", []).json())

    def identity(self) -> NodeId:
        """Who the node is."""
        answer = fields.record(self.name, self._call("id", []).json(), "an identity")
        return NodeId(
            fields.text(self.name, answer, "ID"),
            fields.text(self.name, answer, "AgentVersion"),
            fields.texts(self.name, answer, "Addresses"),
        )

    def version(self) -> str:
        """The node's version, such as 0.43.0."""
        return fields.text(
            self.name, fields.record(self.name, self._call("version", []).json(), "a version"), "Version"
        )

    def _call(
        self,
        command: str,
        params: Params,
        *,
        content: UploadBody | None = None,
        limit: int = 64 << 20,
        patience: float = 0.0,
    ) -> Response:
        """`patience` is seconds for which the node may work and say nothing, beyond the client's limits."""
        return self.http.request(
            "POST",
            _PREFIX + command,
            params=params,
            content=content,
            repeatable=True,
            limit=limit,
            silence=self.http.timeouts.silence + patience,
            total=self.http.timeouts.total + patience,
        )
