"""The options of commands that only read: which index, and where to fetch from."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from reconciler.errors import UsageError
from reconciler.index.locations import RepositoryLayout

if TYPE_CHECKING:
    from reconciler.consume.open import Sources
    from reconciler.download.limits import DownloadLimits


@dataclass(frozen=True, slots=True)
class ReaderOptions:
    """Options as given; the environment and the user's configuration supply the ones left out."""

    directory: Path | None = None
    index: str | None = None
    offline: bool = False
    gateways: Sequence[str] = ()

    def layout(self) -> RepositoryLayout:
        """Find the index. Raises UsageError when there is none, and what reading a remote one raises."""
        from reconciler.consume.find_index import find_index

        return find_index(self.directory, self.index, gateways=self.gateways, offline=self.offline)

    def layout_if_any(self) -> RepositoryLayout | None:
        """Find the index; return None when none is named and none is found. Raises as `layout` does."""
        try:
            return self.layout()
        except UsageError:
            if self.index is not None or self.directory is not None:
                raise
            return None

    def sources(
        self,
        *,
        nodes: Sequence[str] = (),
        stores: Sequence[Path] = (),
        cars: Sequence[Path] = (),
        caches: Sequence[Path] = (),
    ) -> Sources:
        """Return the sources given as options, else those of RECONCILE_GATEWAYS and the configuration."""
        from reconciler.consume.open import Sources
        from reconciler.index.user_config import config_file, load_config

        named = Sources(self.gateways, stores, nodes, cars, caches)
        if named:
            return named
        config = load_config(config_file(os.environ))
        gateways = tuple(os.environ.get("RECONCILE_GATEWAYS", "").split()) or config.gateways
        return Sources(gateways, config.stores, config.kubo, (), caches)


def download_limits(connections: int | None, max_rate: str | None) -> DownloadLimits:
    """Return the limits given as options; those left out are the ones of the user's configuration.

    Raises UsageError for a rate that cannot be read.
    """
    from reconciler.download.limits import DownloadLimits, parse_rate
    from reconciler.index.user_config import config_file, load_config

    configured = load_config(config_file(os.environ)).limits
    rate = configured.max_rate if max_rate is None else parse_rate(max_rate)
    if rate is None:
        raise UsageError(
            f"--max-rate {max_rate!r} is not a rate", hint="write bytes per second, such as 500K, 20M or 1G"
        )
    return DownloadLimits(configured.connections if connections is None else connections, rate)
