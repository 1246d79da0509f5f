"""The audit log and the chain for anchors of a repository: `log:` and `anchor:` in releases/targets.yaml.

They are beside the targets, since only runs and auditors need them, and since addresses are allowed there.
Keys are text here; `reconciler.trust` parses them.
"""

from __future__ import annotations

from dataclasses import dataclass

from reconciler.index import guarded_yaml, schemas
from reconciler.index.guarded_yaml import YamlMapping, YamlNode, YamlScalar, YamlSequence


@dataclass(frozen=True, slots=True)
class WitnessSpec:
    """A witness: its verifier key and its address."""

    key: str
    url: str


@dataclass(frozen=True, slots=True)
class LogSettings:
    """The log: its verifier key, the variable with its private key ("" without one), and its witnesses, of
    which `quorum` must cosign a checkpoint.
    """

    key: str
    key_env: str = ""
    witnesses: tuple[WitnessSpec, ...] = ()
    quorum: int = 0


@dataclass(frozen=True, slots=True)
class AnchorSettings:
    """The chain for anchors: its id, its nodes, and the variables with their token and the sender's key.

    `sender` is the sender's address, "" when only the key tells. A transaction whose fee may exceed `max_fee`
    (in gwei) is not sent; None: no limit.
    """

    chain: int
    rpc: tuple[str, ...]
    key_env: str
    rpc_token_env: str = ""
    sender: str = ""
    max_fee: int | None = None


@dataclass(frozen=True, slots=True)
class AuditSettings:
    """The settings of a repository; None for what it does not have."""

    log: LogSettings | None = None
    anchor: AnchorSettings | None = None


def read_audit_settings(data: bytes, name: str) -> AuditSettings:
    """Return the settings in a valid targets file; errors call it `name`. Raises InvalidIndexError."""
    tree = guarded_yaml.parse(guarded_yaml.decode(data, name), name) if data else None
    if not isinstance(tree, YamlMapping):
        return AuditSettings()
    return AuditSettings(_log(tree.value("log")), _anchor(tree.value("anchor")))


def _log(node: YamlNode | None) -> LogSettings | None:
    if not isinstance(node, YamlMapping):
        return None
    listed = node.value("witnesses")
    witnesses = tuple(
        WitnessSpec(_text(each, "key"), _text(each, "url"))
        for each in (listed if isinstance(listed, YamlSequence) else ())
    )
    quorum = _number(node, "quorum")
    return LogSettings(
        _text(node, "key"),
        _text(node, "key_env"),
        witnesses,
        len(witnesses) if quorum is None else quorum,
    )


def _anchor(node: YamlNode | None) -> AnchorSettings | None:
    if not isinstance(node, YamlMapping):
        return None
    rpc = node.value("rpc")
    return AnchorSettings(
        _number(node, "chain") or 0,
        tuple(map(str, rpc)) if isinstance(rpc, YamlSequence) else (str(rpc),),
        _text(node, "key_env"),
        _text(node, "rpc_token_env"),
        _text(node, "sender").lower(),
        _number(node, "max_fee"),
    )


def _text(node: YamlNode, key: str) -> str:
    value = node.value(key) if isinstance(node, YamlMapping) else None
    return str(value) if isinstance(value, YamlScalar) else ""


def _number(node: YamlMapping, key: str) -> int | None:
    value = node.value(key)
    return schemas.as_integer(value) if isinstance(value, YamlScalar) else None
