"""A space of a real service as a subject of the conformance suite, and a function that opens one."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from reconciler.content.car import Sharding
from reconciler.content.cid import Cid
from reconciler.content.dag import Dag
from reconciler.errors import Where
from reconciler.index.model import TargetSpec
from reconciler.progress import QUIET
from reconciler.targets.storacha.options import read_options
from reconciler.targets.storacha.target import CLIENT_SHARDING, StorachaTarget
from tests.conformance.targets import Damage
from tests.support.storacha_service import READS, Delegation, StorachaService

SECRET = "a password of the bridge"


@contextmanager
def opened(
    service: StorachaService,
    *,
    upload: Delegation | None = None,
    bridge: bool = True,
    reads: tuple[str, ...] = READS,
    sharding: Sharding = CLIENT_SHARDING,
    **options: object,
) -> Iterator[StorachaTarget]:
    """Open the space of `service`; `upload` and `reads` replace delegations, `options` keys of the entry."""
    given = {
        "space": service.space,
        "endpoint": service.url,
        "service": service.did,
        "cli": str(service.cli),
        "principal_env": "KEY",
        "proof_env": "PROOF",
    }
    environ = {
        "PATH": os.environ["PATH"],
        "KEY": service.principal,
        "PROOF": service.proof if upload is None else upload.proof,
    }
    if bridge:
        keys = service.delegate(reads, secret=SECRET)
        given |= {"bridge_secret_env": "SECRET", "bridge_auth_env": "AUTH"}
        environ |= {"SECRET": keys.secret, "AUTH": keys.authorization}
    spec = TargetSpec("space", "storacha", given | options, Where("targets.yaml", 2))
    target = StorachaTarget(
        "space", read_options(spec, environ), environ, root=Path(), sharding=sharding, sleep=lambda _: None
    )
    try:
        yield target
    finally:
        target.close()


class StorachaSubject:
    """One space; another user is a second target on it, because uploads have no names."""

    def __init__(self, service: StorachaService, target: StorachaTarget) -> None:
        self.service = service
        self.target = target

    def damage(self, dag: Dag, kind: Damage, cid: Cid) -> None:
        raise AssertionError("a service keeps whole CARs, which cannot be damaged from here")

    def pin_as_stranger(self, dag: Dag, label: str) -> None:
        with opened(self.service) as theirs:
            theirs.publish(dag, label, QUIET)

    def serve(self, dag: Dag) -> Sequence[str]:
        raise AssertionError("Storacha pins nothing by CID")

    def snapshot(self) -> object:
        with opened(self.service) as fresh:
            return fresh._reader.uploads()

    def make_unreachable(self) -> None:
        self.service.stop()
