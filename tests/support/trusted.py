"""A repository with two signed versions, and a consumer whose configuration accepts one key."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from reconciler.loop.sign import sign_versions
from tests.support.releases import Releases
from tests.support.signing import public_key, signer

WEIGHTS = b"".join(number.to_bytes(4, "big") for number in range(3 << 18))  #: three different leaves


@dataclass
class SignedRepository:
    """`releases` are published in a store and signed with key 0; `config` is the consumer's configuration."""

    releases: Releases
    config: Path

    @property
    def store(self) -> Path:
        """The directory of the store."""
        return self.releases.root / ".reconcile/store"

    def trust(self, *rules: dict[str, object], **fields: object) -> None:
        """Write the configuration, with rules about whose releases are accepted."""
        self.config.parent.mkdir(parents=True, exist_ok=True)
        self.config.write_text(json.dumps({"trust": list(rules), **fields}))

    def accept(self, number: int = 0, **fields: object) -> dict[str, object]:
        """Return a rule that accepts the key `number`, whose file it writes."""
        name = f"{number}.pem"
        self.config.parent.mkdir(parents=True, exist_ok=True)
        (self.config.parent / name).write_bytes(public_key(number).pem)
        return {"models": ["acme/*"], "signed_by": [{"key": name}], **fields}

    def signatures(self, version: str = "1.0.0", number: int = 0) -> Path:
        """Return the directory with the signatures of one key."""
        folder = public_key(number).id[:16]
        return self.releases.root / "releases/signatures/acme/llm" / version / folder

    def sign(self, number: int = 0) -> None:
        """Sign every version with the key `number`."""
        with self.releases.running() as run:
            list(sign_versions(run.workspace, run.workspace.index.versions(), signer(number), {}))


def signed_repository(root: Path, patch: pytest.MonkeyPatch) -> SignedRepository:
    """Publish and sign `acme/llm` 1.0.0 and 1.1.0, and accept key 0 for the models of acme."""
    releases = Releases(root / "publisher")
    releases.add("acme/llm@1.0.0", {"model.bin": WEIGHTS, "config.json": b"{}"})
    releases.add("acme/llm@1.1.0", {"model.bin": WEIGHTS[::-1], "config.json": b"{}"})
    releases.apply()
    made = SignedRepository(releases, root / "consumer/reconcile/config.yaml")
    made.sign()
    patch.setenv("XDG_CONFIG_HOME", str(root / "consumer"))
    patch.setenv("RECONCILE_CACHE", str(root / "consumer-cache"))
    made.trust(made.accept())
    return made
