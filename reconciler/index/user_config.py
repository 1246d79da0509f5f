"""The user's defaults for reading: `$XDG_CONFIG_HOME/reconcile/config.yaml`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from reconciler.download.limits import DEFAULT_LIMITS, DownloadLimits, parse_rate
from reconciler.fs import expand_user, user_directory
from reconciler.index import guarded_yaml, schemas
from reconciler.index.guarded_yaml import (
    IndexProblem,
    YamlMapping,
    YamlNode,
    YamlScalar,
    YamlSequence,
    raise_for,
)
from reconciler.index.log_settings import LogSettings, WitnessSpec
from reconciler.index.schemas import as_integer
from reconciler.index.signature_rules import SignatureRule, read_rules


@dataclass(frozen=True, slots=True)
class PinnedLog:
    """An audit log whose key the user knows. `index` is the address of the index that must have it, None for
    one that is only used to verify proofs.
    """

    settings: LogSettings
    index: str | None = None


@dataclass(frozen=True, slots=True)
class TokenRule:
    """Globs of models that need the token in an environment variable."""

    models: tuple[str, ...]
    token_env: str


@dataclass(frozen=True, slots=True)
class ServeConfig:
    """The certificate chain and the private key of `serve`, and which models need a token there.

    `cache_size` is the most bytes that `--upstream` keeps, None for no limit.
    """

    certificate: Path | None = None
    private_key: Path | None = None
    access: tuple[TokenRule, ...] = ()
    cache_size: int | None = None


@dataclass(frozen=True, slots=True)
class UserConfig:
    """The index to read when no option names one, the sources of blocks for it, the tokens of hosts, and the
    rules about whose releases are accepted.

    `tokens` has the name of an environment variable for each key: `HOST[:PORT]`, or the address of a gateway
    with its scheme.
    """

    index: str | None = None
    gateways: tuple[str, ...] = ()
    kubo: tuple[str, ...] = ()
    stores: tuple[Path, ...] = ()
    receipts: bool = False  #: whether `fetch` recognizes a directory that it fetched by its receipt
    limits: DownloadLimits = DEFAULT_LIMITS  #: of all downloads
    tokens: Mapping[str, str] = field(default_factory=dict)
    trust: tuple[SignatureRule, ...] = ()
    logs: tuple[PinnedLog, ...] = ()  #: audit logs whose keys the user knows
    serve: ServeConfig = ServeConfig()


def config_file(environ: Mapping[str, str]) -> Path:
    """Return the path of the file (XDG Base Directory specification)."""
    return user_directory(environ, "XDG_CONFIG_HOME", ".config") / "config.yaml"


def load_config(path: Path) -> UserConfig:
    """Load the configuration in `path`, an empty one without the file.

    The home directory of another user, which this process may not enter, has no file either. Raises
    InvalidIndexError with `file:line`.
    """
    if not os.path.exists(path):  # noqa: PTH110 - Path.exists raises
        return UserConfig()
    name = str(path)
    tree = guarded_yaml.parse(guarded_yaml.decode(guarded_yaml.read(path), name), name)
    raise_for(schemas.problems("config", tree), name)
    assert isinstance(tree, YamlMapping)  # noqa: S101  by the schema
    tokens: dict[str, str] = {}

    def addresses(key: str) -> tuple[str, ...]:
        """Return the addresses of a list; an entry with a token adds it to `tokens`."""
        value = tree.value(key)
        found = []
        for entry in value if isinstance(value, YamlSequence) else ():
            url = str(entry.value("url") if isinstance(entry, YamlMapping) else entry)
            found.append(url)
            if isinstance(entry, YamlMapping) and entry.value("token_env") is not None:
                tokens[url.rstrip("/")] = str(entry.value("token_env"))
        return tuple(found)

    hosts = tree.value("hosts")
    if isinstance(hosts, YamlMapping):
        for host, entry in hosts.items():
            if isinstance(entry, YamlMapping):
                tokens[str(host).lower()] = str(entry.value("token_env"))
    problems: list[IndexProblem] = []
    trust = read_rules(tree.value("trust"), path, name, problems)
    raise_for(problems, name)
    index = tree.value("index")
    return UserConfig(
        None if index is None else str(index),
        addresses("gateways"),
        addresses("kubo"),
        tuple(path.parent / each for each in addresses("stores")),
        str(tree.value("receipts")) == "true",
        _limits(tree),
        tokens,
        trust,
        _logs(tree.value("logs")),
        _serve(tree.value("serve"), path.parent),
    )


def _logs(node: YamlNode | None) -> tuple[PinnedLog, ...]:
    """Return the entries of `logs`; a witness has no address, since readers ask none."""
    found = []
    for entry in node if isinstance(node, YamlSequence) else ():
        assert isinstance(entry, YamlMapping)  # noqa: S101  by the schema
        keys, quorum, index = entry.value("witnesses"), entry.value("quorum"), entry.value("index")
        witnesses = tuple(WitnessSpec(str(key), "") for key in keys) if isinstance(keys, YamlSequence) else ()
        number = as_integer(quorum) if isinstance(quorum, YamlScalar) else None
        settings = LogSettings(
            str(entry.value("key")), "", witnesses, len(witnesses) if number is None else number
        )
        found.append(PinnedLog(settings, None if index is None else str(index)))
    return tuple(found)


def _limits(tree: YamlMapping) -> DownloadLimits:
    connections, rate = tree.value("connections"), tree.value("max_rate")
    return DownloadLimits(
        DEFAULT_LIMITS.connections if connections is None else int(str(connections)),
        0 if rate is None else parse_rate(str(rate)) or 0,
    )


def _serve(node: YamlNode | None, directory: Path) -> ServeConfig:
    """Return the entry `serve`; its files are relative to the configuration in `directory`."""
    if not isinstance(node, YamlMapping):
        return ServeConfig()

    def file(key: str) -> Path | None:
        value = node.value(key)
        return None if value is None else directory / expand_user(str(value))

    rules = []
    access = node.value("access")
    for entry in access if isinstance(access, YamlSequence) else ():
        assert isinstance(entry, YamlMapping)  # noqa: S101  by the schema
        globs = entry.value("models")
        models = tuple(str(each) for each in globs) if isinstance(globs, YamlSequence) else ()
        rules.append(TokenRule(models, str(entry.value("token_env"))))
    size = node.value("cache_size")
    limit = None if size is None else parse_rate(str(size))
    return ServeConfig(file("certificate"), file("private_key"), tuple(rules), limit)
