"""From what the index and sources.yaml declare to an open source."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from reconciler.index.model import SourceSpec
from reconciler.index.version_source import SourceReference
from reconciler.sources.interface import SourceDefinition, SourceKind, WeightSource
from reconciler.sources.open import open_source


def definition_of(spec: SourceSpec) -> SourceDefinition:
    """Return the definition of a source from its entry in sources.yaml."""
    texts = {key: str(value) for key, value in spec.options.items() if isinstance(value, str)}
    url, endpoint = texts.get("url", ""), texts.get("endpoint", "")
    if spec.kind == SourceKind.HUGGING_FACE.value:
        url, endpoint = endpoint, ""
    return SourceDefinition(
        spec.name,
        SourceKind(spec.kind),
        url=url,
        endpoint=endpoint,
        region=texts.get("region", ""),
        token_env=texts.get("token_env", ""),
        key_id_env=texts.get("key_id_env", ""),
        secret_env=texts.get("secret_env", ""),
        session_token_env=texts.get("session_token_env", ""),
        account=texts.get("account", ""),
        etag=texts.get("etag", ""),
    )


def open_declared(
    reference: SourceReference, spec: SourceSpec, root: Path, environ: Mapping[str, str]
) -> WeightSource:
    """Open the source that `reference` names, without a connection; `spec` is its declaration.

    Local paths are relative to `root`, the repository. Raises UsageError as `open_source` does.
    """
    base = root / str(spec.options.get("path", ""))
    return open_source(definition_of(spec), reference.location, root=base, environ=environ)
