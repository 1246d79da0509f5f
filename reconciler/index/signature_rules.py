"""Rules about signatures, as the user's configuration (`trust`) and an index (`signatures`) declare them.

    trust:
      - models: ["acme/*"]
        signed_by:
          - key: acme.pem
          - {identity: "https://github.com/acme/models/.github/workflows/release.yml@refs/heads/main",
             issuer: "https://token.actions.githubusercontent.com"}
        threshold: 1
        provenance: {builder: "...", source: "..."}

This module reads what is written; the room `trust` decides with it. Files are relative to the file with the
rule. Those that an index names are inside its directory: it may come from somebody else.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from fnmatch import fnmatchcase
from pathlib import Path

from reconciler.errors import Where
from reconciler.fs import expand_user
from reconciler.index.guarded_yaml import IndexProblem, YamlMapping, YamlNode, YamlScalar, YamlSequence, shown
from reconciler.index.schemas import as_integer
from reconciler.index.version_source import path_problem

_MODES = ("enforce", "warn", "off")
_KINDS = (
    frozenset({"key"}),
    frozenset({"key", "until"}),
    frozenset({"authority"}),
    frozenset({"authority", "identity"}),
    frozenset({"identity", "issuer"}),
    frozenset({"identity", "issuer", "trusted_root"}),
)
_HINT = "write {key: FILE}, {authority: FILE, identity: ...} or {identity: ..., issuer: ...}"
_FILES = ("key", "authority", "trusted_root")
MAX_SIGNERS = 8  #: of one rule, so that a refusal takes few requests


@dataclass(frozen=True, slots=True)
class SignerSpec:
    """One entry of `signed_by`; what it does not have is None or ""."""

    key: Path | None = None
    authority: Path | None = None
    identity: str = ""
    issuer: str = ""
    trusted_root: Path | None = None
    until: date | None = None


@dataclass(frozen=True, slots=True)
class SignatureRule:
    """One rule. `index` is the address or path that it is for, "" for every index; `models` are globs.

    `provenance` is None when the rule demands none; else the exact `builder` and `source`, "" for any.
    """

    signers: tuple[SignerSpec, ...]
    threshold: int
    where: Where
    index: str = ""
    models: tuple[str, ...] = ("*",)
    mode: str = "enforce"
    provenance: tuple[str, str] | None = None

    def covers(self, model: str) -> bool:
        """Return whether the rule is for `model`; for content of no index, "", only when it is for all."""
        return any(fnmatchcase(model.lower(), each.lower()) for each in self.models)


def read_rules(
    node: YamlNode | None, file: Path, name: str, problems: list[IndexProblem]
) -> tuple[SignatureRule, ...]:
    """Return the rules in a sequence; add what is invalid in them to `problems`. `file` contains them."""
    listed = node if isinstance(node, YamlSequence) else ()
    return tuple(rule for each in listed if (rule := read_rule(each, file, name, problems)) is not None)


def read_rule(
    node: YamlNode | None,
    file: Path,
    name: str,
    problems: list[IndexProblem],
    *,
    files_inside: bool = False,
) -> SignatureRule | None:
    """Return one rule of `file`, which is called `name`; None, with `problems`, when it is invalid.

    With `files_inside` the files that it names must be below the directory of `file`.
    """
    if not isinstance(node, YamlMapping):
        return None
    before = len(problems)
    mode = _text(node, "mode") or "enforce"
    listed = node.value("signed_by")
    if files_inside:
        problems += _outside(listed)
    signers = tuple(_signers(listed, file.parent, problems)) if isinstance(listed, YamlSequence) else ()
    count = node.value("threshold")
    threshold = (as_integer(count) if isinstance(count, YamlScalar) else 1) or 0
    if mode not in _MODES:
        problems.append(IndexProblem(node.line, f"'mode' is {shown(mode)}", f"use {', '.join(_MODES)}"))
    elif mode != "off" and not 1 <= len(signers) <= MAX_SIGNERS:
        problems.append(IndexProblem(node.line, f"'signed_by' must have 1 to {MAX_SIGNERS} signers", _HINT))
    elif mode != "off" and not 1 <= threshold <= len(set(signers)):
        problems.append(
            IndexProblem(
                node.line,
                f"'threshold' must be from 1 to the {len(set(signers))} signers of the rule",
                "a signer that is listed twice counts once",
            )
        )
    models = node.value("models")
    globs = tuple(str(each) for each in models) if isinstance(models, YamlSequence) else ("*",)
    origin = node.value("provenance")
    provenance = None
    if isinstance(origin, YamlMapping):
        provenance = (_text(origin, "builder"), _text(origin, "source"))
    if len(problems) > before:
        return None
    return SignatureRule(
        signers, threshold, Where(name, node.line), _text(node, "index"), globs, mode, provenance
    )


def _signers(listed: YamlSequence, base: Path, problems: list[IndexProblem]) -> Iterator[SignerSpec]:
    for entry in listed:
        if not isinstance(entry, YamlMapping):
            continue
        given = frozenset(str(key) for key in entry)
        if given not in _KINDS:
            what = " and ".join(sorted(given)) or "nothing"
            problems.append(IndexProblem(entry.line, f"a signer has {what}", _HINT))
            continue
        until = _text(entry, "until")
        try:
            day = date.fromisoformat(until) if until else None
        except ValueError:
            problems.append(
                IndexProblem(entry.line, f"'until' is {shown(until)}", "write it like 2027-06-01")
            )
            continue
        yield SignerSpec(
            _file(entry, "key", base),
            _file(entry, "authority", base),
            _text(entry, "identity"),
            _text(entry, "issuer"),
            _file(entry, "trusted_root", base),
            day,
        )


def _outside(listed: YamlNode | None) -> Iterator[IndexProblem]:
    """Yield a problem for each file that is not below the directory of the index."""
    for entry in listed if isinstance(listed, YamlSequence) else ():
        for key in _FILES:
            value = entry.value(key) if isinstance(entry, YamlMapping) else None
            if isinstance(value, YamlScalar) and (problem := path_problem(value)) is not None:
                yield IndexProblem(value.line, f"{key!r} {shown(value)} {problem[0]}", problem[1])


def _file(node: YamlMapping, key: str, base: Path) -> Path | None:
    text = _text(node, key)
    return base / expand_user(text) if text else None


def _text(node: YamlMapping, key: str) -> str:
    value = node.value(key)
    return str(value) if isinstance(value, YamlScalar) else ""
