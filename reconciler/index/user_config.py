"""The user's defaults for reading: `$XDG_CONFIG_HOME/reconcile/config.yaml`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from reconciler import fs
from reconciler.index import guarded_yaml, schemas
from reconciler.index.guarded_yaml import raise_for


@dataclass(frozen=True, slots=True)
class UserConfig:
    """The index to read when no option names one, and the sources of blocks for it."""

    index: str | None = None
    gateways: tuple[str, ...] = ()
    kubo: tuple[str, ...] = ()
    stores: tuple[Path, ...] = ()
    receipts: bool = False  #: whether `fetch` recognizes a directory that it fetched by its receipt


def config_file(environ: Mapping[str, str]) -> Path:
    """Return the path of the file (XDG Base Directory specification)."""
    return fs.user_directory(environ, "XDG_CONFIG_HOME", ".config") / "config.yaml"


def load_config(path: Path) -> UserConfig:
    """Load the configuration in `path`, an empty one without the file.

    Raises InvalidIndexError with `file:line`.
    """
    if not path.exists():
        return UserConfig()
    name = str(path)
    tree = guarded_yaml.parse(guarded_yaml.decode(guarded_yaml.read(path), name), name)
    raise_for(schemas.problems("config", tree), name)
    assert isinstance(tree, guarded_yaml.YamlMapping)  # noqa: S101  by the schema

    def texts(key: str) -> tuple[str, ...]:
        value = tree.value(key)
        return tuple(map(str, value)) if isinstance(value, guarded_yaml.YamlSequence) else ()

    index = tree.value("index")
    return UserConfig(
        None if index is None else str(index),
        texts("gateways"),
        texts("kubo"),
        tuple(path.parent / each for each in texts("stores")),
        str(tree.value("receipts")) == "true",
    )
