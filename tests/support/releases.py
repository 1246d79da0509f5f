"""A repository with releases in a temporary directory, and runs of the loop over it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from reconciler.content.cid import Cid
from reconciler.index.load import load_index
from reconciler.index.locations import RepositoryLayout
from reconciler.index.model import Index, TargetSpec
from reconciler.index.schemas import schema_text
from reconciler.loop.changes import Plan, Report
from reconciler.loop.plan_document import plan_document, report_document
from reconciler.loop.run import apply, make_plan
from reconciler.loop.settings import RunOptions, Scope
from reconciler.loop.status import ReleaseStatus, observe_status
from reconciler.loop.workspace import Workspace, load
from reconciler.progress import QUIET, Progress
from reconciler.render.status import status_document
from reconciler.targets import open as targets_module
from reconciler.targets.interface import Target
from tests.support.memory_target import MemoryTarget

CREATED = "2026-05-07T00:00:00Z"


@dataclass(frozen=True)
class Running:
    """A workspace and the options of its run."""

    workspace: Workspace
    options: RunOptions

    def plan(self) -> Plan:
        return make_plan(self.workspace, self.options)

    def apply(self, plan: Plan) -> Report:
        return apply(plan, self.workspace)


class Releases:
    """An index of versions as `fields[model][version]`, written out before each run.

    CIDs that a run wrote back are read back. `targets` are names; those in `memory` are memory targets, those
    in `specs` have these entries in targets.yaml, the others are stores below the repository.
    """

    def __init__(self, root: Path, *targets: str, index_id: str = "acme") -> None:
        self.root = root
        self.id = index_id
        self.targets = targets or ("store",)
        self.fields: dict[str, dict[str, dict[str, Any]]] = {}
        self.about: dict[str, dict[str, Any]] = {}  #: further fields of models
        self.defaults: dict[str, Any] = {}
        self.policy: object = None
        self.signatures: object = None
        self.memory: dict[str, MemoryTarget] = {}
        self.specs: dict[str, dict[str, Any]] = {}
        self.audit: dict[str, Any] = {}  #: `log` and `anchor` of targets.yaml
        self.environ: dict[str, str] = {}  #: of runs
        self.index_file.parent.mkdir(parents=True, exist_ok=True)

    @property
    def index_file(self) -> Path:
        return self.root / "releases" / "index.yaml"

    @property
    def index(self) -> Index:
        return load_index(self.index_file)

    def add(self, ref: str, files: Mapping[str, bytes] | None = None, **fields: Any) -> None:
        """Add `model@version`, with a directory of `files` unless `fields` has a CID."""
        model, _, version = ref.partition("@")
        if "cid" not in fields:
            fields = {"path": f"weights/{model}/{version}", "created_at": CREATED} | fields
            for name, data in (files or {"weights.bin": ref.encode() * 10}).items():
                file = self.root / fields["path"] / name
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(data)
        self.fields.setdefault(model, {})[version] = fields

    def change(self, ref: str, **fields: Any) -> None:
        """Set fields of a version; None removes one."""
        model, _, version = ref.partition("@")
        entry = self.fields[model][version]
        for key, value in fields.items():
            entry[key] = value
            if value is None:
                del entry[key]

    def remove(self, ref: str) -> dict[str, Any]:
        """Remove a version from the index; return its fields."""
        model, _, version = ref.partition("@")
        entry = self.fields[model].pop(version)
        if not self.fields[model]:
            del self.fields[model]
        return entry

    def rename(self, ref: str, new: str) -> None:
        """Rename a version."""
        model, _, version = new.partition("@")
        self.fields.setdefault(model, {})[version] = self.remove(ref)

    def source(self, ref: str) -> Path:
        """Return the directory of a version."""
        model, _, version = ref.partition("@")
        return self.root / str(self.fields[model][version]["path"])

    def cid(self, ref: str) -> Cid:
        """Return the CID that the index on disk has for a version."""
        model, _, version = ref.partition("@")
        cid = self.index.models[model].versions[version].cid
        assert cid is not None, f"{ref} has no CID"
        return cid

    def write(self) -> None:
        """Write index.yaml and targets.yaml. JSON is YAML, quoted as the loader requires."""
        models = {m: {**self.about.get(m, {}), "versions": v} for m, v in self.fields.items()}
        defaults = {"targets": list(self.targets), **self.defaults}
        index = {"schema": 1, "id": self.id, "defaults": defaults, "models": models}
        if self.policy is not None:
            index["policy"] = self.policy
        if self.signatures is not None:
            index["signatures"] = self.signatures
        self.index_file.write_text(json.dumps(index, indent=1))
        targets = {
            name: {"kind": "store", "path": f".reconcile/{name}"} for name in self.targets
        } | self.specs
        self.index_file.with_name("targets.yaml").write_text(
            json.dumps({"targets": targets, **self.audit}, indent=1)
        )

    def take_over(self) -> None:
        """Read back the CIDs in the index file."""
        for version in self.index.versions():
            if version.cid is not None:
                self.fields[version.model][version.version]["cid"] = str(version.cid)

    def layout(self) -> RepositoryLayout:
        (self.root / ".reconcile").mkdir(exist_ok=True)
        targets = self.index_file.with_name("targets.yaml")
        return RepositoryLayout(self.root, self.index_file, targets, self.root)

    @contextmanager
    def running(self, progress: Progress = QUIET, **settings: Any) -> Iterator[Running]:
        """Load the files as they are, with the memory targets in place.

        `settings` are fields of Scope and of RunOptions.
        """
        narrowing = {
            name: settings.pop(name) for name in ("only", "exclude", "use_cache") if name in settings
        }
        options = RunOptions(**settings)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(targets_module, "open_target", self._opener(targets_module.open_target))
            with load(Scope(self.layout(), **narrowing), self.environ, progress) as workspace:
                yield Running(workspace, options)

    def plan(self, **settings: Any) -> Plan:
        """Write the files and plan. Validate the plan's document."""
        self.write()
        with self.running(**settings) as run:
            plan = run.plan()
        assert_document("plan", plan_document(plan))
        return plan

    def apply(self, **settings: Any) -> Report:
        """Write the files, plan and apply. Validate the report's document."""
        self.write()
        with self.running(**settings) as run:
            report = run.apply(run.plan())
        assert_document("report", report_document(report))
        self.take_over()
        return report

    def status(self, **settings: Any) -> ReleaseStatus:
        """Write the files and observe the status."""
        self.write()
        with self.running(**settings) as run:
            status = observe_status(run.workspace, run.options.check)
        assert_document("status", status_document(status))
        return status

    def _opener(self, real: Callable[..., Target]) -> Callable[..., Target]:
        def opener(spec: TargetSpec, **rest: Any) -> Target:
            return self.memory[spec.name] if spec.name in self.memory else real(spec, **rest)

        return opener


def with_memory(root: Path, *names: str) -> Releases:
    """Return a repository whose targets are all in memory."""
    releases = Releases(root, *names)
    releases.memory = {name: MemoryTarget(name) for name in names}
    return releases


def kinds(plan: Plan) -> list[tuple[str, str, str | None]]:
    """Return (kind, model@version, target) of each change."""
    return [(change.kind, change.ref, change.target) for change in plan.changes]


def states(report: Report) -> list[tuple[str, str, str | None, str]]:
    """Return (kind, model@version, target, state) of each outcome."""
    return [(o.change.kind, o.change.ref, o.change.target, o.state) for o in report.outcomes]


def assert_document(name: str, document: Any) -> None:
    """Validate `document` as JSON against `schemas/<name>.schema.json`."""
    _validator(name).validate(json.loads(json.dumps(document)))


@cache
def _validator(name: str) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(json.loads(schema_text(name)))


def tree(root: Path, *, but: Sequence[str] = (".git", ".reconcile")) -> dict[str, bytes]:
    """Return every file below `root` by relative path, except those below `but`."""
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.relative_to(root).parts[0] not in but
    }
