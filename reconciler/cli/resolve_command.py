"""`reconcile resolve`: from a REF to a CID. Imports no git, no HTTP, and for a known index no validator."""

from __future__ import annotations

import contextlib

from reconciler.cli import output as out
from reconciler.errors import ExitCode, UsageError
from reconciler.index.layout import Layout
from reconciler.index.load import load_index
from reconciler.index.resolve import parse_ref, resolve


def show_resolution(layout: Layout, ref: str, *, as_json: bool) -> int:
    """Print the CID of the version that `ref` names; warnings (yanked, retired) on stderr."""
    wanted = parse_ref(ref)
    with contextlib.suppress(OSError):  # a checkout may be read-only; then nothing is cached
        layout.make_state()
    index = load_index(layout.index_file, stamps=layout.cache)
    found = resolve(index, wanted)
    version = found.version
    for warning in found.warnings:
        out.warn(warning)
    if as_json:
        out.result_json(
            {
                "schema": 1,
                "kind": "resolution",
                "model": version.model if version else None,
                "version": version.version if version else None,
                "cid": str(found.cid),
                "yanked": version.yanked if version else None,
                "retired": version.retired if version else False,
                "requested": ref,
                "format": version.format if version else None,
                "license": version.license if version else None,
            }
        )
    else:
        out.result(str(found.cid))
    return ExitCode.OK


def show_versions(layout: Layout, ref: str, *, as_json: bool) -> int:
    """Print every version that has the CID `ref`, in the order of the index; exit 1 when there is none."""
    wanted = parse_ref(ref)
    if wanted.cid is None:
        raise UsageError(f"{ref!r} is not a CID", hint="--reverse finds the versions of a CID")
    index = load_index(layout.index_file)
    found = [version for version in index.versions() if version.cid == wanted.cid]
    if as_json:
        items = [
            {"model": each.model, "version": each.version, "yanked": each.yanked, "retired": each.retired}
            for each in found
        ]
        out.result_json({"schema": 1, "kind": "versions", "cid": str(wanted.cid), "items": items})
    else:
        for version in found:
            out.result(version.ref)
    if not found:
        out.say(f"no version in {str(layout.index_file)!r} has {wanted.cid}")
    return ExitCode.OK if found else ExitCode.ERROR
