"""What a node's answers hold. A wrong type is the node's fault, an unknown field nobody's."""

from __future__ import annotations

from dataclasses import dataclass

from reconciler.content import cid as cids
from reconciler.content.cid import Cid
from reconciler.errors import DataError
from reconciler.net.response import Response
from reconciler.targets import fields


class WrongBytesError(Exception):
    """The node has other bytes under a CID than the CID says."""


@dataclass(frozen=True, slots=True)
class NodePin:
    """One recursive pin; `name` is "" when it has none. `root` is None for a DAG of a kind unknown here.

    `canonical` is False for a pin on the CIDv0 of a root: to Kubo that is another pin than the one on its
    CIDv1.
    """

    text: str
    root: Cid | None
    name: str
    canonical: bool


@dataclass(frozen=True, slots=True)
class DagStat:
    """Unique blocks under a root, and their bytes."""

    blocks: int
    size: int


@dataclass(frozen=True, slots=True)
class RepoStat:
    """Bytes the repository has, and its `StorageMax`, which nothing enforces."""

    size: int
    maximum: int


@dataclass(frozen=True, slots=True)
class NodeCommand:
    """One command that runs on the node; `started` is the node's own clock, RFC 3339 text."""

    name: str
    started: str
    active: bool


@dataclass(frozen=True, slots=True)
class NodeId:
    """Who the node is; it has no addresses while it is offline."""

    peer_id: str
    agent: str
    addresses: tuple[str, ...]


def read_pins(peer: str, answer: Response) -> tuple[NodePin, ...]:
    """The pins in an answer to `pin/ls`; one that says `{}` has none."""
    listed = fields.record(peer, answer.json(), "a list of pins").get("Keys")
    found = []
    for text, entry in listed.items() if isinstance(listed, dict) else ():
        named = fields.text(peer, fields.record(peer, entry, "a pin"), "Name")
        try:
            root: Cid | None = cids.parse(text)
        except DataError:
            root = None
        found.append(NodePin(text, root, named, canonical=root is not None and str(root) == text))
    return tuple(found)


def read_commands(peer: str, answer: object) -> tuple[NodeCommand, ...]:
    """The commands in an answer to `diag/cmds`, oldest first."""
    listed = answer if isinstance(answer, list) else []
    found = [fields.record(peer, entry, "a command") for entry in listed]
    return tuple(
        NodeCommand(
            name=fields.text(peer, entry, "Command"),
            started=fields.text(peer, entry, "StartTime"),
            active=entry.get("Active") is True,
        )
        for entry in found
    )
