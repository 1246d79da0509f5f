"""The index that a read-only command uses: a local file, or a remote index that is downloaded first."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from reconciler.fs import expand_user
from reconciler.index.locations import INDEX, Origin, RepositoryLayout, find_layout, nearest_repository

if TYPE_CHECKING:
    from reconciler.index.user_config import UserConfig


def find_index(
    directory: Path | None = None,
    index: str | None = None,
    *,
    gateways: Sequence[str] = (),
    offline: bool = False,
) -> RepositoryLayout:
    """Return the layout of the index to read; download a remote index first.

    The first of these names the index: `index` (a file or an address), `directory`, RECONCILE_INDEX, the
    nearest directory upwards that has an index, the user's configuration. `gateways` serve an ipfs:// or
    ipns:// index; without any, those of the user's configuration. With `offline`, a remote index is used as
    it was last read. Raises UsageError when nothing names an index, and what reading a remote one raises.
    """
    if index is None and directory is None:
        index = os.environ.get("RECONCILE_INDEX") or None
        if index is None and not (nearest_repository() / INDEX).is_file():
            index = _configured().index
    if index is None or "://" not in index:
        return find_layout(directory, expand_user(index) if index is not None else None)
    # imported here: a local index needs no HTTP, and no configuration where the repository has it
    from reconciler.consume.content_cache import default_cache
    from reconciler.consume.gateway_source import GatewaySource
    from reconciler.consume.host_tokens import auth_for
    from reconciler.consume.remote_index import open_remote
    from reconciler.consume.seen_log import pinned_keys

    config = _configured()
    addresses = gateways or config.gateways
    sources = (
        [GatewaySource(url, auth=auth_for(url)) for url in addresses]
        if index.startswith(("ipfs://", "ipns://")) and not offline
        else []
    )
    try:
        log = pinned_keys(config.logs, index)
        found = open_remote(index, default_cache(os.environ), offline=offline, sources=sources, log=log)
    finally:
        for source in sources:
            source.close()
    home = found.file.parent
    return RepositoryLayout(
        root=home,
        index_file=found.file,
        targets_file=home / "targets.yaml",
        source_root=home,
        origin=Origin(index, found.commit, found.content),
    )


def _configured() -> UserConfig:
    from reconciler.index.user_config import config_file, load_config

    return load_config(config_file(os.environ))
