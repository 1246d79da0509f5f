"""What a command that only reads was told: which index, and which gateways it may ask."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from reconciler.errors import UsageError
from reconciler.index.layout import Layout

if TYPE_CHECKING:
    from reconciler.api import Sources


@dataclass(frozen=True, slots=True)
class Reading:
    """Flags as given; the environment and the user's configuration fill in what they leave open."""

    directory: Path | None
    index: str | None
    offline: bool
    gateways: tuple[str, ...]

    def layout(self, *, optional: bool = False) -> Layout | None:
        """Where the index is; None where there is none and it is `optional`. Raises UsageError."""
        from reconciler.consume.find_index import find_index

        try:
            return find_index(self.directory, self.index, gateways=self.gateways, offline=self.offline)
        except UsageError:
            if not optional or self.index is not None or self.directory is not None:
                raise
            return None

    def sources(
        self, nodes: Sequence[str], stores: Sequence[Path], cars: Sequence[Path], caches: Sequence[Path]
    ) -> Sources:
        """Those named by flags; else those in RECONCILE_GATEWAYS or in the user's configuration."""
        from reconciler.api import Sources
        from reconciler.index.user_config import config_file, load_config

        named = Sources(self.gateways, stores, nodes, cars, caches)
        if named:
            return named
        config = load_config(config_file(os.environ))
        gateways = tuple(os.environ.get("RECONCILE_GATEWAYS", "").split()) or config.gateways
        return Sources(gateways, config.stores, config.kubo, (), caches)
