"""Names and secrets of a Hugging Face hub: locations, the endpoint, and the token of the user.

A location is `org/name@REVISION`, or `datasets/org/name@REVISION`. The endpoint and the token of the built-in
source come from the environment as huggingface_hub reads them: HF_ENDPOINT, HF_TOKEN, and what
`hf auth login` stored. A source that sources.yaml defines gets no other token than the one that it names: a
token for one hub must not go to another.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from urllib.parse import quote

from reconciler.errors import UsageError
from reconciler.net.address import Address, parse_address
from reconciler.net.auth import Auth, Scheme, Secret, from_env
from reconciler.sources.interface import SourceDefinition

PUBLIC_HUB = "https://huggingface.co"
COMMIT = re.compile(r"[0-9a-f]{40}")  #: a revision that never moves
_PART = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,95})"
_LOCATION = re.compile(rf"(?P<kind>datasets/)?(?P<id>{_PART}(?:/{_PART})?)@(?P<revision>[^\s@]{{1,255}})")
_HINT = "write it like org/name@<commit of 40 hex digits>"


@dataclass(frozen=True, slots=True)
class HubLocation:
    """A repository of a hub at a revision; `kind` is "models" or "datasets"."""

    kind: str
    repository: str
    revision: str

    @property
    def api(self) -> str:
        """The path of the repository in the API of the hub."""
        return f"/api/{self.kind}/{self.repository}"

    @property
    def page(self) -> str:
        """The path of the repository's page, and of its files."""
        return f"/{'datasets/' if self.kind == 'datasets' else ''}{self.repository}"

    def information(self, revision: str) -> str:
        """Return the path of what the hub states about the repository at `revision`."""
        return f"{self.api}/revision/{quote(revision, safe='')}"

    def resolve(self, path: str) -> str:
        """Return the path of a file's bytes."""
        return f"{self.page}/resolve/{quote(self.revision, safe='')}/{quote(path, safe='/')}"


def parse_location(location: str) -> HubLocation:
    """Parse `org/name@REVISION`. Raises UsageError."""
    found = _LOCATION.fullmatch(location)
    if found is None or ".." in found["id"] or "--" in found["id"] or ".." in found["revision"]:
        raise UsageError(f"{location!r} names no repository of a Hugging Face hub", hint=_HINT)
    return HubLocation("datasets" if found["kind"] else "models", found["id"], found["revision"])


def hub_address(definition: SourceDefinition, environ: Mapping[str, str]) -> Address:
    """Return the endpoint: that of `definition`, else HF_ENDPOINT, else the public hub. Raises UsageError."""
    if definition.url:
        return parse_address(definition.url, f"the url of the source {definition.name!r}")
    return parse_address(environ.get("HF_ENDPOINT") or PUBLIC_HUB, "HF_ENDPOINT")


def hub_auth(definition: SourceDefinition, environ: Mapping[str, str]) -> Auth | None:
    """Return the token for the hub of `definition`, or None. Raises UsageError for a variable not set."""
    if definition.token_env:
        return Auth(Scheme.BEARER, from_env(definition.token_env, environ))
    if definition.url:
        return None
    if environ.get("HF_TOKEN", "").strip():
        return Auth(Scheme.BEARER, from_env("HF_TOKEN", environ))
    stored = None if _is_on(environ.get("HF_HUB_DISABLE_IMPLICIT_TOKEN")) else _stored_token()
    return Auth(Scheme.BEARER, Secret(stored)) if stored else None


def _stored_token() -> str | None:
    """Return the token that huggingface_hub knows, such as that of `hf auth login`; None without one."""
    if find_spec("huggingface_hub") is None:
        return None
    try:
        found = import_module("huggingface_hub").get_token()
    except Exception:  # noqa: BLE001 - the library asks its environment in many ways; without it, all is public
        return None
    return found if isinstance(found, str) and found.isascii() and found.isprintable() else None


def _is_on(value: str | None) -> bool:
    return (value or "").upper() in ("1", "ON", "YES", "TRUE")
