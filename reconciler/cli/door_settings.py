"""What the doors of `serve` answer from: the index that the user named, its signatures, and trust rules."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from reconciler.cli import output as out
from reconciler.render.words import plain

if TYPE_CHECKING:
    from reconciler.gateway.doors.open import DoorSettings
    from reconciler.gateway.doors.referrers import SignatureFile
    from reconciler.index.locations import RepositoryLayout
    from reconciler.index.model import Version
    from reconciler.index.user_config import ServeConfig

# between two readings of the index of a running server
_LOCAL_SECONDS = 2.0
_REMOTE_SECONDS = 60.0


def door_settings(
    names: Sequence[str], index: str | None, config: ServeConfig, upstream: Sequence[str]
) -> DoorSettings:
    """Return the settings of the doors `names`. Raises UsageError, and what finding an index raises."""
    from reconciler.consume.content_cache import default_cache
    from reconciler.consume.find_index import find_index
    from reconciler.consume.gateway_source import GatewaySource
    from reconciler.consume.host_tokens import auth_for
    from reconciler.consume.trusted import AcceptedReleases
    from reconciler.gateway.doors.interface import AccessRule, DoorAccess
    from reconciler.gateway.doors.open import DoorSettings, Upstream
    from reconciler.gateway.releases import index_reader
    from reconciler.net.auth import from_env

    cache = default_cache(os.environ)
    gateways = [GatewaySource(url, auth=auth_for(url)) for url in upstream]
    layout = find_index(index=index)
    releases = AcceptedReleases(
        lambda: find_index(index=index), index_reader(), lambda text: out.say(plain(text))
    )
    return DoorSettings(
        names,
        releases,
        reload_seconds=_LOCAL_SECONDS if layout.origin is None else _REMOTE_SECONDS,
        cache=cache,
        upstream=Upstream(gateways, cache / "upstream", config.cache_size) if gateways else None,
        access=DoorAccess(
            [AccessRule(rule.models, from_env(rule.token_env, os.environ)) for rule in config.access]
        ),
        refused=releases.refused,
        signatures=lambda version: signature_files(layout, version),
    )


def signature_files(layout: RepositoryLayout, version: Version) -> Sequence[SignatureFile]:
    """Return the files with signatures of a version that are on this machine."""
    from reconciler.gateway.doors.referrers import SignatureFile
    from reconciler.trust.files import read_signatures

    found = read_signatures(layout.index_file.parent, version.model, version.version)
    files = []
    for bundle in (*found.release, *found.provenance):
        *_, signer, name = bundle.place.split("/")
        if bundle.data:
            files.append(SignatureFile(signer, name, bundle.data))
    return files
