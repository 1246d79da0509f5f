"""Opening of the targets that targets.yaml describes. The module of a kind is imported on demand."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import cast

from reconciler.errors import InvalidIndexError, Reason, ReconcilerError
from reconciler.index.model import TargetSpec
from reconciler.index.target_kinds import target_kinds, target_module
from reconciler.targets.interface import RunTerms, Target


def open_target(
    spec: TargetSpec, *, root: Path, environ: Mapping[str, str], terms: RunTerms = RunTerms()
) -> Target:
    """Open the target that `spec` describes, without a connection; nothing is created.

    Relative paths are relative to `root`, the repository; secrets come from `environ`. Raises
    InvalidIndexError for an unknown kind, UserError for invalid options.
    """
    kinds = target_kinds()
    if spec.kind not in kinds:
        close = difflib.get_close_matches(spec.kind, kinds, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"the kinds are {', '.join(kinds)}"
        raise InvalidIndexError(
            f"target {spec.name!r} has unknown kind {spec.kind!r}", hint=hint, where=spec.where
        )
    module = import_module(target_module(spec.kind))
    return cast(Target, module.open_target(spec, root=root, environ=environ, terms=terms))


@dataclass(frozen=True, slots=True)
class OpenedTargets:
    """The targets of one command, by name: the open ones, and the reason why each other one is not open."""

    targets: Mapping[str, Target]
    failed: Mapping[str, Reason]


@contextmanager
def open_targets(
    specs: Iterable[TargetSpec], *, root: Path, environ: Mapping[str, str], terms: RunTerms = RunTerms()
) -> Iterator[OpenedTargets]:
    """Open the targets of `specs` as `open_target` does, and close them when the block ends.

    A target that cannot be opened does not stop the others; `failed` has the reason.
    """
    targets: dict[str, Target] = {}
    failed: dict[str, Reason] = {}
    with ExitStack() as stack:
        for spec in specs:
            try:
                targets[spec.name] = open_target(spec, root=root, environ=environ, terms=terms)
            except ReconcilerError as error:
                failed[spec.name] = Reason.from_error(error)
            else:
                stack.callback(targets[spec.name].close)
        yield OpenedTargets(targets, failed)
