"""The entrance to a release: which findings about its files refuse the first publication, and which warn.

Only a version without a CID is examined: a published one is frozen, and nothing may keep it from repair.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from reconciler.content.dag import Dag
from reconciler.content.lint.examine import examine
from reconciler.content.lint.files import dag_subject, listing_subject
from reconciler.content.lint.finding import Finding, FindingCode, Severity, finding, severity_order
from reconciler.content.scan import SourceListing
from reconciler.errors import BundleError, SafetyError
from reconciler.git.ignored import ignored_files
from reconciler.index.model import Version

_UNLICENSED_KINDS = frozenset({"artifact"})


def listing_findings(listing: SourceListing, version: Version | None = None) -> tuple[Finding, ...]:
    """Return the findings about a scanned directory, those that refuse first.

    `version` is its entry in the index, None without one. Raises SourceChangedError or BundleError when a
    file cannot be read.
    """
    found = examine(listing_subject(listing), licensed=_is_licensed(version))
    paths = [file.path for file in listing.files]
    ignored = ignored_files(listing.root, paths) if listing.read_span is None else ()
    if len(ignored) < len(paths):  # else the whole directory is kept out of git on purpose
        found += tuple(
            finding(
                FindingCode.IGNORED_FILE,
                path,
                f"{path!r} is ignored by git: a clean clone gives another CID",
            )
            for path in ignored
        )
    return _judged(found, version)


def dag_findings(dag: Dag, version: Version | None = None) -> tuple[Finding, ...]:
    """Return the findings about the files of a DAG, as `listing_findings` does.

    Raises DataError, and what reading the DAG raises.
    """
    return _judged(examine(dag_subject(dag), licensed=_is_licensed(version)), version)


def artifact_findings(listing: SourceListing, *, single_file: bool) -> tuple[Finding, ...]:
    """Return the findings about files that `put` publishes.

    An artifact is not a release: it needs no license and may differ from what a clone contains, and a single
    file need not be a complete set.
    """
    ignored = {FindingCode.NO_LICENSE, FindingCode.IGNORED_FILE}
    if single_file:
        ignored |= {FindingCode.MISSING_FILE}
    return tuple(
        found
        for found in _judged(examine(listing_subject(listing), licensed=True), None)
        if found.code not in ignored
    )


def require_harmless(found: Sequence[Finding]) -> None:
    """Raise SafetyError for a finding that even an artifact must not have."""
    for each in found:
        if each.code.severity is Severity.NEVER or each.code.leaks:
            raise SafetyError(f"refused: {each.message}", hint=each.hint)


def require_publishable(found: Sequence[Finding], ref: str) -> None:
    """Raise BundleError, with the first reason and its way out, if `found` refuses to publish `ref`."""
    refusing = [each for each in found if each.refuses]
    if refusing:
        others = len(refusing) - 1
        more = f" (and {others} more: `reconcile lint {ref}` lists them)" if others else ""
        raise BundleError(f"{refusing[0].message}{more}", hint=refusing[0].advice)


def _is_licensed(version: Version | None) -> bool:
    return version is not None and (version.license is not None or version.kind in _UNLICENSED_KINDS)


def _judged(found: Sequence[Finding], version: Version | None) -> tuple[Finding, ...]:
    accepted = version.accept if version is not None else ()
    judged = (replace(each, accepted=True) if each.code in accepted else each for each in found)
    return tuple(sorted(judged, key=severity_order))
