"""The JSON documents of the commands, as `--json` prints them; `schemas/` has one schema for each `kind`.

Plans and reports are built in `loop.plan_document`, since a saved plan is read back there; `status` has its
own module. Sizes are in bytes, dates in RFC 3339, CIDs in their canonical text form. Importing this module
loads nothing but the standard library.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reconciler.consume.fetch import Fetched
    from reconciler.consume.lock_file import LockEntry
    from reconciler.consume.verify import DirectoryComparison
    from reconciler.content.car import CarShard
    from reconciler.content.cid import Cid
    from reconciler.content.dag import DagLayout
    from reconciler.content.directory_dag import BundleIdentity
    from reconciler.content.lint.finding import Finding
    from reconciler.index.history import FrozenCheck, LoggedRelease
    from reconciler.index.model import Version
    from reconciler.index.provenance import Provenance
    from reconciler.index.resolve import ResolvedReference
    from reconciler.index.seal_keys import WrappedKey
    from reconciler.loop.carried_over import CarriedVersion
    from reconciler.loop.inspection import DoctorFinding, ForeignPin
    from reconciler.loop.lint import Linted
    from reconciler.loop.put import Put
    from reconciler.targets.pricing import FundingPlan, FundingReceipt

SCHEMA = 1


def error_document(message: str, *, where: str | None, hint: str | None, exit_code: int) -> dict[str, Any]:
    """Return the document that takes the place of any other when a command fails."""
    error = {"message": message, "where": where, "hint": hint, "exit_code": exit_code}
    return _document("error", error=error)


# -- content -------------------------------------------------------------------------------------------------


def identity_document(identity: BundleIdentity, *, profile: str, generated: Sequence[str]) -> dict[str, Any]:
    """Return the document of a bundle's identity under `profile`; `generated` names the generated files."""
    return _document(
        "identity",
        root=str(identity.root),
        size=identity.size,
        blocks=identity.blocks,
        block_bytes=identity.block_bytes,
        car_size=identity.car_size,
        dirhash=identity.dirhash,
        profile=profile,
        generated=list(generated),
        files=[
            {"path": file.path, "size": file.size, "sha256": file.sha256, "cid": str(file.cid)}
            for file in identity.files
        ],
    )


def export_document(layout: DagLayout, file: Path, source: str) -> dict[str, Any]:
    """Return the document of an export to `file`; `source` names where the bytes came from."""
    return _document("export", cid=str(layout.root), file=str(file), size=layout.car_size, source=source)


def pieces_document(shards: Sequence[CarShard]) -> list[dict[str, Any]]:
    """Return one entry for each CAR: its own CID, its size and its piece CIDs (v2 and v1).

    The list has no `schema` and no `kind`: other programs rely on this shape.
    """
    return [
        {
            "car": str(shard.cid),
            "size": shard.size,
            "piece": str(shard.piece),
            "piece_v1": str(shard.piece.v1),
            "padded_size": shard.piece.padded_size,
        }
        for shard in shards
    ]


# -- consumers -----------------------------------------------------------------------------------------------


def resolution_document(found: ResolvedReference, requested: str) -> dict[str, Any]:
    """Return the document of the version and CID that the reference `requested` resolves to."""
    version = found.version
    return _document(
        "resolution",
        **_names(version),
        cid=str(found.cid),
        path=found.path or None,
        yanked=version.yanked if version else None,
        retired=version.retired if version else False,
        requested=requested,
        format=version.format if version else None,
        license=version.license if version else None,
    )


def versions_document(cid: Cid, versions: Sequence[Version]) -> dict[str, Any]:
    """Return the document of every version that has `cid`."""
    items = [
        {"model": each.model, "version": each.version, "yanked": each.yanked, "retired": each.retired}
        for each in versions
    ]
    return _document("versions", cid=str(cid), items=items)


def fetch_document(done: Fetched, version: Version | None, signers: Sequence[str] = ()) -> dict[str, Any]:
    """Return the document of a fetch, with the counters of each source; `version` is None for a CID.

    `signers` are those that a trust rule accepts.
    """
    return _document(
        "fetch",
        **_names(version),
        cid=str(done.root),
        destination=str(done.destination),
        already=done.already,
        files=done.files,
        size=done.size,
        resumed=done.resumed,
        cached=done.cached,
        reused=done.reused,
        by_receipt=done.by_receipt,
        sums=done.sums,
        signed_by=list(signers),
        sources=[
            {
                "name": source.name,
                "bytes": source.bytes,
                "blocks": source.blocks,
                "bad": source.bad,
                "dropped": source.dropped or None,
            }
            for source in done.sources
        ],
    )


def lock_document(
    file: Path, entries: Sequence[LockEntry], *, changed: Sequence[str], stale: bool
) -> dict[str, Any]:
    """Return the document of the lock entries of a run; `changed` lists the references whose CID differs from
    the file's.
    """
    return _document(
        "lock",
        file=str(file),
        stale=stale,
        changed=list(changed),
        models=[asdict(entry) | {"cid": str(entry.cid)} for entry in entries],
    )


def verified_document(
    version: Version | None, root: Cid, signers: Sequence[str], *, blocks: int, size: int, source: str
) -> dict[str, Any]:
    """Return the document of a successful verification: every block of `root` was read from `source`.

    `signers` are those that a trust rule accepts.
    """
    return _document(
        "verification",
        ok=True,
        **_names(version),
        cid=str(root),
        blocks=blocks,
        bytes=size,
        source=source,
        signed_by=list(signers),
    )


def provenance_document(version: Version, root: Cid, provenance: Provenance, *, files: int) -> dict[str, Any]:
    """Return the document of a provenance that was checked: `files` are as in the commit of the source."""
    return _document(
        "verification",
        ok=True,
        **_names(version),
        cid=str(root),
        source=provenance.source,
        revision=provenance.revision,
        files=files,
    )


def difference_document(
    version: Version, found: Cid, path: Path, comparison: DirectoryComparison
) -> dict[str, Any]:
    """Return the document of a failed verification: `path` has the root `found` instead of `version.cid`."""
    return _document(
        "verification",
        ok=False,
        **_names(version),
        cid=str(version.cid),
        found=str(found),
        compared_by=comparison.compared_by.value,
        source=str(path),
        differences=[
            {"path": each.path, "kind": each.kind.value, "offsets": list(each.offsets)}
            for each in comparison.differences
        ],
    )


def cache_document(files: int, damaged: Sequence[str]) -> dict[str, Any]:
    """Return the document of a check of the content cache: `files` checked, `damaged` ones removed."""
    return _document("cache", ok=not damaged, files=files, damaged=list(damaged))


# -- index ---------------------------------------------------------------------------------------------------


def added_document(
    model: str,
    version: str,
    *,
    path: str | None,
    source: str | None,
    resolved: str | None,
    license: str | None,  # noqa: A002 - the word of the index
    format: str | None,  # noqa: A002
    created_at: str,
    index: Path,
    findings: Sequence[Finding],
) -> dict[str, Any]:
    """Return the document of a version that was added to the index, with the findings about its files.

    `resolved` is the branch or tag that became the commit in `source`.
    """
    return _document(
        "added",
        model=model,
        version=version,
        path=path,
        source=source,
        resolved=resolved,
        license=license,
        format=format,
        created_at=created_at,
        index=str(index),
        findings=_findings(findings),
    )


def lint_document(linted: Linted) -> dict[str, Any]:
    """Return the document of an examination of files."""
    from reconciler.render.findings import word

    words = [word(found) for found in linted.findings]
    return _document(
        "lint",
        name=linted.name,
        **_names(linted.version),
        source=linted.source,
        findings=_findings(linted.findings),
        notes=list(linted.notes),
        summary={each: words.count(each) for each in ("refused", "accepted", "warning")},
    )


def _findings(findings: Sequence[Finding]) -> list[dict[str, str | bool]]:
    from reconciler.content.lint.finding import finding_fields

    return [finding_fields(found) for found in findings]


def init_document(index_id: str, made: Sequence[Path]) -> dict[str, Any]:
    """Return the document of a new index: its id and the files that were created."""
    return _document("init", id=index_id, made=[str(file) for file in made])


def seal_document(
    current: WrappedKey, made: Sequence[WrappedKey], rewrapped: Sequence[WrappedKey]
) -> dict[str, Any]:
    """Return the document of a key of a sealed model, and of the files that were written for it."""
    return _document(
        "seal",
        model=current.model,
        generation=current.generation,
        key=current.key,
        recipients=list(current.recipients),
        made=[str(each.file) for each in made],
        rewrapped=[str(each.file) for each in rewrapped],
    )


def check_document(frozen: FrozenCheck, *, versions: int, resolved: int, recorded: int) -> dict[str, Any]:
    """Return the document of a check without problems: the numbers of versions, of CIDs and of records."""
    return _document(
        "check",
        ok=True,
        versions=versions,
        resolved=resolved,
        recorded=recorded,
        compared_with=frozen.checked,
        complete=frozen.complete,
    )


def log_document(model: str, releases: Sequence[LoggedRelease]) -> dict[str, Any]:
    """Return the document of the releases of `model`, newest first."""
    return _document("log", items=[{"model": model, **asdict(release)} for release in releases])


# -- stores and targets --------------------------------------------------------------------------------------


def import_document(
    layout: DagLayout, file: Path, store: Path, *, extra_blocks: int, already_there: bool
) -> dict[str, Any]:
    """Return the document of an imported CAR; `extra_blocks` of the file are not reachable from its root."""
    return _document(
        "import",
        cid=str(layout.root),
        file=str(file),
        store=str(store),
        blocks=len(layout),
        bytes=layout.size,
        extra_blocks=extra_blocks,
        already_there=already_there,
    )


def put_document(done: Put, anchor: str | None = None) -> dict[str, Any]:
    """Return the document of an artifact that was published without an index entry.

    `anchor` is the transaction that anchors it, None without one.
    """
    return _document(
        "put",
        cid=str(done.root),
        target=done.target,
        label=done.label or None,
        state=done.state.value,
        files=done.files,
        size=done.size,
        blocks=done.blocks,
        bytes_sent=done.bytes_sent,
        detail=done.detail,
        findings=_findings(done.findings),
        **({} if anchor is None else {"anchor": anchor}),
    )


def doctor_document(findings: Sequence[DoctorFinding]) -> dict[str, Any]:
    """Return the document of the findings of `doctor`; `ok` is false when one of them is a failure."""
    items = [
        {
            "target": finding.target,
            "subject": finding.diagnosis.subject,
            "ok": finding.diagnosis.ok,
            "text": finding.diagnosis.text,
            "hint": finding.diagnosis.hint,
        }
        for finding in findings
    ]
    return _document("doctor", ok=all(item["ok"] is not False for item in items), items=items)


def adopt_document(
    results: Mapping[ForeignPin, str], *, take: bool, foreign: int, matching: int
) -> dict[str, Any]:
    """Return the document of foreign pins, each with its problem or ""; `take`: adoption was requested."""
    items = [_adopted(candidate, problem, take=take) for candidate, problem in results.items()]
    return _document("adopt", items=items, summary={"foreign": foreign, "matching": matching})


def _adopted(candidate: ForeignPin, problem: str, *, take: bool) -> dict[str, Any]:
    model, _, version = candidate.ref.partition("@")
    taken = take and bool(candidate.ref) and not problem
    return {
        "target": candidate.target,
        "cid": candidate.pin.spelling or str(candidate.pin.root),
        "label": candidate.pin.label,
        "model": model or None,
        "version": version or None,
        "state": "adopted" if taken else "failed" if problem else "foreign",
        "detail": problem,
    }


def carried_document(found: Sequence[CarriedVersion], origin: str, *, taken: bool) -> dict[str, Any]:
    """Return the document of versions whose pieces a migration from `origin` brought to targets."""
    items = [
        {
            "target": each.target,
            "cid": str(each.root),
            "label": "",
            "model": each.ref.partition("@")[0],
            "version": each.ref.partition("@")[2],
            "state": "adopted" if each.complete and (taken or each.recorded) else "foreign",
            "detail": each.detail,
        }
        for each in found
    ]
    matching = sum(each.complete for each in found)
    return _document(
        "adopt", **{"from": origin}, items=items, summary={"foreign": len(found), "matching": matching}
    )


def funding_document(target: str, plan: FundingPlan, done: Sequence[FundingReceipt]) -> dict[str, Any]:
    """Return the document of what an account lacks, each with its transaction if it was carried out."""
    from reconciler.loop.cost_document import account_document, amount_text

    hashes = {receipt.action: receipt.hash for receipt in done}
    items = [
        {
            "action": action.kind,
            "text": action.text,
            "reason": action.why,
            "amount": None if action.amount is None else amount_text(action.amount),
            "state": "sent" if action in hashes else "missing",
            "transaction": hashes.get(action),
        }
        for action in plan.actions
    ]
    return _document(
        "fund",
        ok=all(item["state"] == "sent" for item in items),
        account=account_document(target, plan.account),
        wallet=amount_text(plan.wallet),
        items=items,
        problems=[{"text": each.text, "hint": each.hint} for each in plan.problems],
    )


def _document(kind: str, **fields: Any) -> dict[str, Any]:
    return {"schema": SCHEMA, "kind": kind, **fields}


def _names(version: Version | None) -> dict[str, str | None]:
    return {
        "model": version.model if version else None,
        "version": version.version if version else None,
    }
