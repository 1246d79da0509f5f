"""The origin of a release as a SLSA provenance statement, version 1.

It says from which source and which commits a version was made, and which workflow published it: what the
record says about the source, and what a job of GitHub Actions knows about itself. Outside of a job the
builder is `urn:model-reconciler:builder:local`. It names no times, so the same publication gives the same
statement. Source: slsa.dev/spec/v1.0/provenance.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from reconciler.trust.statement import (
    PROVENANCE_PREDICATE,
    Release,
    Statement,
    StatementError,
    render_statement,
)

BUILD_TYPE = "urn:model-reconciler:publish:v1"
LOCAL_BUILDER = "urn:model-reconciler:builder:local"
_HOSTS = {"huggingface": "https://huggingface.co/"}


@dataclass(frozen=True, slots=True)
class ReleaseOrigin:
    """Where the bytes of a version came from: the source as in the index, its kind, and its revision.

    All are "" when unknown. `commit` is the commit of the index (hex), "" without git.
    """

    source: str = ""
    kind: str = ""
    revision: str = ""
    commit: str = ""


def render_provenance_statement(release: Release, origin: ReleaseOrigin, environ: Mapping[str, str]) -> bytes:
    """Return the provenance statement of a release, with the workflow that `environ` describes."""
    external: dict[str, object] = {
        "index": release.index,
        "model": release.model,
        "version": release.version,
    }
    if origin.source:
        external["source"] = origin.source
    dependencies: list[dict[str, object]] = []
    internal: dict[str, object] = {}
    builder, metadata = LOCAL_BUILDER, {}
    if environ.get("GITHUB_ACTIONS") == "true" and environ.get("GITHUB_REPOSITORY"):
        server = environ.get("GITHUB_SERVER_URL", "https://github.com")
        repository = f"{server}/{environ['GITHUB_REPOSITORY']}"
        ref = environ.get("GITHUB_REF", "")
        workflow = environ.get("GITHUB_WORKFLOW_REF", "")
        path = workflow.removeprefix(f"{environ['GITHUB_REPOSITORY']}/").partition("@")[0]
        external["workflow"] = {"ref": ref, "repository": repository, "path": path}
        internal["github"] = {
            "event_name": environ.get("GITHUB_EVENT_NAME", ""),
            "repository_id": environ.get("GITHUB_REPOSITORY_ID", ""),
            "repository_owner_id": environ.get("GITHUB_REPOSITORY_OWNER_ID", ""),
            "runner_environment": environ.get("RUNNER_ENVIRONMENT", ""),
        }
        builder = f"{server}/{workflow}"
        metadata["invocationId"] = (
            f"{repository}/actions/runs/{environ.get('GITHUB_RUN_ID', '')}"
            f"/attempts/{environ.get('GITHUB_RUN_ATTEMPT', '1')}"
        )
        if environ.get("GITHUB_SHA"):
            uri = f"git+{repository}@{ref}"
            dependencies.append({"uri": uri, "digest": {"gitCommit": environ["GITHUB_SHA"]}})
    elif origin.commit:
        dependencies.append({"name": "index", "digest": {"gitCommit": origin.commit}})
    if origin.revision:
        dependencies.append(_source(origin))
    predicate = {
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": external,
            "internalParameters": internal,
            "resolvedDependencies": dependencies,
        },
        "runDetails": {"builder": {"id": builder}, "metadata": metadata},
    }
    return render_statement(release, PROVENANCE_PREDICATE, predicate)


@dataclass(frozen=True, slots=True)
class ProvenanceRule:
    """What a policy demands of the origin: the builder, and a source among its dependencies; "" is any.

    Both are compared exactly, `source` with the URI of a dependency or with the part of it before `@`.
    """

    builder: str = ""
    source: str = ""

    def check(self, statement: Statement) -> str:
        """Return the builder of a provenance statement. Raises StatementError when it is not accepted."""
        if statement.kind != PROVENANCE_PREDICATE:
            raise StatementError(
                f"the statement has the type {statement.kind[:120]!r}, not {PROVENANCE_PREDICATE!r}"
            )
        builder = statement.predicate.text("runDetails", "builder", "id")
        if self.builder not in ("", builder):
            raise StatementError(f"the builder is {builder[:200]!r}, not {self.builder!r}")
        listed = statement.predicate.at("buildDefinition").items_or_none("resolvedDependencies")
        uris = [each.text_or("", "uri") for each in listed]
        if self.source and self.source not in {*uris, *(uri.rpartition("@")[0] for uri in uris)}:
            named = ", ".join(uri[:120] for uri in uris if uri) or "none"
            raise StatementError(f"the sources are {named}, not {self.source!r}")
        return builder


def _source(origin: ReleaseOrigin) -> dict[str, object]:
    """Return the descriptor of the source of the bytes."""
    name, _, location = origin.source.partition(":")
    place = location.rpartition("@")[0] or location
    host = _HOSTS.get(origin.kind)
    uri = f"{host}{place}" if host and name == "hf" else f"urn:model-reconciler:source:{name}:{place}"
    return {"uri": f"git+{uri}@{origin.revision}" if host and name == "hf" else uri, "name": origin.source,
            "digest": {"gitCommit": origin.revision}}  # fmt: skip
