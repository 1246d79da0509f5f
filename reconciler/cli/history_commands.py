"""`reconcile check` and `reconcile log`: the index against its own git history; no target is asked."""

from __future__ import annotations

from dataclasses import asdict

from reconciler.cli import output as out
from reconciler.errors import ExitCode, SafetyError, UsageError
from reconciler.index.history import check_frozen, release_log
from reconciler.index.layout import Layout
from reconciler.index.load import load_index
from reconciler.index.recorded import check_records
from reconciler.index.targets_file import load_targets
from reconciler.loop.select import select, suggestion
from reconciler.render.words import count, plain


def check_index(layout: Layout, *, base: str | None, as_json: bool) -> int:
    """All that can be known without a target. Raises InvalidIndex, SafetyError with every violation."""
    index = load_index(layout.index_file)
    select(index, load_targets(layout.targets_file))
    recorded = check_records(index, None)
    frozen = check_frozen(index, base=base)
    if frozen.violations:
        raise SafetyError(
            "\n".join(f"{violation.where}: {violation.message}" for violation in frozen.violations),
            hint=frozen.violations[0].hint,
        )
    versions = list(index.versions())
    resolved = sum(version.cid is not None for version in versions)
    if as_json:
        out.result_json(
            {
                "schema": 1,
                "kind": "check",
                "ok": True,
                "versions": len(versions),
                "resolved": resolved,
                "recorded": len(recorded),
                "compared_with": frozen.checked,
                "complete": frozen.complete,
            }
        )
    else:
        out.result(
            f"ok: {count(len(versions), 'version')}, {resolved:,} with a CID, {len(recorded):,} with a record"
        )
        out.say(f"compared with {frozen.checked}")
    return ExitCode.OK


def show_log(layout: Layout, model: str, *, as_json: bool) -> int:
    """The releases of one model. Raises UsageError for a model that never had one."""
    releases = release_log(layout.index_file, model)
    if not releases:
        index = load_index(layout.index_file)
        if model not in index.models:
            raise UsageError(f"unknown model {model!r}", hint=suggestion(model, index.models))
    if as_json:
        items = [{"model": model, **asdict(release)} for release in releases]
        out.result_json({"schema": 1, "kind": "log", "items": items})
        return ExitCode.OK
    for release in releases:
        named = f"(#{release.proposal})"  # a squashed merge says it in its subject already
        by = f" {named}" if release.proposal and named not in release.subject else ""
        who = f"{release.author}: {release.subject}{by}"
        out.result(plain(f"{release.version:<12} {release.when}  {release.commit[:12]}  {who}"))
        out.result(f"             {release.cid}")
    if not releases:
        out.say(f"{model} has no release in the history of HEAD yet")
    return ExitCode.OK
