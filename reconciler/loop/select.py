"""The selection of a run: versions and targets, narrowed by --only and --exclude. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from reconciler.errors import UsageError
from reconciler.index.model import Index, TargetSpec, Version
from reconciler.index.names import closest
from reconciler.index.part import SEPARATOR, Part
from reconciler.index.targets_file import check_target_names

_PREFIX = re.compile(r"@\s*=?\s*[vV]?(?=\d)")  # no version of an index begins with one


@dataclass(frozen=True, slots=True)
class Selection:
    """The part of the index that a run works on: versions (retired ones too) and targets, in file order.

    `version_only` and `exclude` are the globs that narrowed the versions; both empty means all of them. Of
    the versions in `parts`, by `model@version`, only that part is published.
    """

    index: Index
    versions: tuple[Version, ...]
    targets: tuple[TargetSpec, ...]
    version_only: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    parts: Mapping[str, Part] = field(default_factory=dict)

    @property
    def kept(self) -> tuple[Version, ...]:
        """The versions that must exist on a target."""
        return tuple(version for version in self.versions if not version.retired)

    @property
    def active(self) -> tuple[Version, ...]:
        """The versions for which a run may change something: kept, and not suspended."""
        return tuple(version for version in self.kept if not version.suspended)

    def covers(self, model: str, version: str) -> bool:
        """Return whether the globs select this model and version, which may be absent from the index."""
        return _wanted((model, f"{model}@{version}"), self.version_only, self.exclude)


def select(
    index: Index, targets: Sequence[TargetSpec], only: Sequence[str] = (), exclude: Sequence[str] = ()
) -> Selection:
    """Narrow `index` and `targets` by globs over model names, `model@version` and target names.

    An --only glob that matches models or versions narrows versions; one that matches target names narrows
    targets. As in references, `v` or `=` before a version means nothing. An --only glob that ends in `#2/5`
    selects that part of the versions it matches. Raises UsageError for a glob that matches nothing, or names
    no part, InvalidIndexError for a version that names an unknown target.
    """
    versions = tuple(index.versions())
    names = [spec.name for spec in targets]
    check_target_names(index, targets)
    if not only and not exclude:
        return Selection(index, versions, tuple(targets))
    only, exclude = ([_PREFIX.sub("@", glob) for glob in globs] for globs in (only, exclude))
    divided = [(glob, *_split_part(glob)) for glob in only if SEPARATOR in glob]
    only = [glob.partition(SEPARATOR)[0] for glob in only]
    version_names = list(dict.fromkeys(name for v in versions for name in (v.model, v.ref)))
    for flag, globs in (("--only", only), ("--exclude", exclude)):
        for glob in globs:
            if not any(fnmatchcase(name, glob) for name in (*version_names, *names)):
                raise UsageError(
                    f"{flag} {glob!r} matches no model, version or target",
                    hint=suggestion(glob, [*version_names, *names]),
                )
    version_only = tuple(glob for glob in only if any(fnmatchcase(name, glob) for name in version_names))
    target_only = tuple(glob for glob in only if any(fnmatchcase(name, glob) for name in names))
    selected = tuple(v for v in versions if _wanted((v.model, v.ref), version_only, exclude))
    return Selection(
        index,
        selected,
        tuple(spec for spec in targets if _wanted((spec.name,), target_only, exclude)),
        version_only,
        tuple(exclude),
        _parts(selected, only, divided),
    )


def _split_part(glob: str) -> tuple[str, Part]:
    """Return the glob and the part of `model@version#2/5`. Raises UsageError."""
    name, _, part = glob.partition(SEPARATOR)
    try:
        return name, Part.parse(part)
    except ValueError as error:
        raise UsageError(
            f"--only {glob!r}: {error}", hint="write a part as in --only 'model@1.2.0#2/5'"
        ) from None


def _parts(
    versions: Sequence[Version], only: Sequence[str], divided: Sequence[tuple[str, str, Part]]
) -> dict[str, Part]:
    """Return the part of each version of which only one is selected. Raises UsageError for two of them."""
    found: dict[str, Part] = {}
    for version in versions:
        names = (version.model, version.ref)
        matched = [(glob, part) for glob, name, part in divided if _wanted(names, (name,), ())]
        whole = sum(_wanted(names, (glob,), ()) for glob in only) > len(matched)
        if len(matched) > 1 or (matched and whole):
            raise UsageError(
                f"--only {matched[0][0]!r} selects a part of {version.ref}, and another --only selects more",
                hint="select one part of a version in one run",
            )
        if matched:
            found[version.ref] = matched[0][1]
    return found


def suggestion(name: str, candidates: Iterable[str]) -> str | None:
    """Return `did you mean …?` for a mistyped name, or None when no candidate is similar."""
    near = closest(name, candidates)
    return f"did you mean {near!r}?" if near else None


def _wanted(names: Sequence[str], only: Sequence[str], exclude: Sequence[str]) -> bool:
    if any(fnmatchcase(name, glob) for name in names for glob in exclude):
        return False
    return not only or any(fnmatchcase(name, glob) for name in names for glob in only)
