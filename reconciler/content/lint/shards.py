"""Sets of files that belong together: shards named by a weight map, by number, or by a DVC file.

A weight map is a `*.index.json` whose `weight_map` gives the file of each tensor; safetensors, PyTorch,
TensorFlow and Flax checkpoints share the form. Numbered shards are `NAME-00001-of-00003.EXT`; weights count
from 1, data sets and TensorFlow variables from 0.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass, field

from reconciler.content.lint.bounded_json import JsonTooLargeError, load_bounded, shown_name
from reconciler.content.lint.finding import Finding, FindingCode, Flaw, finding, of_file

WEIGHT_MAP_SUFFIX = ".index.json"
_NUMBERED = re.compile(r"(?P<stem>.*[-_.])(?P<number>[0-9]{3,10})-of-(?P<total>[0-9]{3,10})(?P<rest>[^/]*)")
_FROM_ZERO = re.compile(r"(\.(parquet|arrow|tfrecord|jsonl|json|csv|tar|txt|zst|gz|avro)|^)$", re.IGNORECASE)
_SHOWN = 3  #: names in one message


@dataclass(frozen=True, slots=True)
class WeightMap:
    """A parsed weight map: the paths of its shards, relative to the root of the release."""

    path: str
    shards: frozenset[str]


def parse_weight_map(path: str, data: bytes) -> WeightMap | Finding | None:
    """Return the weight map in `data`, a finding when it is malformed, None when it is another JSON file."""
    try:
        value = load_bounded(data)
    except JsonTooLargeError as error:
        return of_file(path, Flaw(FindingCode.UNEXAMINED_FILE, f"was not examined: it {error}"))
    except ValueError as error:
        return of_file(path, Flaw(FindingCode.INVALID_HEADER, f"is not JSON: {error}"))
    names = value.get("weight_map") if isinstance(value, dict) else None
    if names is None:
        return None
    if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
        return of_file(
            path, Flaw(FindingCode.INVALID_HEADER, "has a 'weight_map' that is not a map of names")
        )
    directory = posixpath.dirname(path)
    unique = set(names.values())
    return WeightMap(path, frozenset(posixpath.normpath(posixpath.join(directory, name)) for name in unique))


def missing_shards(maps: Iterable[WeightMap], paths: Set[str]) -> Iterator[Finding]:
    """Yield a finding for each weight map and each numbered set that is incomplete in `paths`."""
    reported: set[str] = set()
    for weight_map in maps:
        missing = sorted(weight_map.shards - paths)
        if missing:
            reported.update(missing)
            total = len(weight_map.shards)
            yield _missing(
                weight_map.path,
                f"names {total:,} {'file' if total == 1 else 'files'}, of which {len(missing):,} "
                f"{'is' if len(missing) == 1 else 'are'} missing: {_names(missing, len(missing))}",
            )
    for numbered in _numbered_sets(paths):
        names, count = numbered.missing()
        if count and not reported.issuperset(names):
            yield _missing(
                numbered.first,
                f"belongs to a set of {numbered.total:,} files, of which {count:,} "
                f"{'is' if count == 1 else 'are'} missing: {_names(names, count)}",
            )


def missing_outputs(descriptions: Iterable[str], paths: Set[str], directories: Set[str]) -> Iterator[Finding]:
    """Yield a finding for each DVC file whose file or directory is missing."""
    for path in descriptions:
        output = path.removesuffix(".dvc")
        if output not in paths and output not in directories:
            yield finding(
                FindingCode.MISSING_FILE,
                path,
                f"{path!r} describes {output!r}, which is missing",
                "get the files with `dvc pull`",
            )


def _missing(path: str, text: str) -> Finding:
    return of_file(path, Flaw(FindingCode.MISSING_FILE, text))


def _names(names: list[str], count: int) -> str:
    shown = ", ".join(shown_name(name) for name in names[:_SHOWN])
    return shown + (f" and {count - _SHOWN:,} more" if count > _SHOWN else "")


@dataclass(slots=True)
class _NumberedSet:
    """The files of one name with `-N-of-M`; `total` is M."""

    first: str
    stem: str
    width: int
    total: int
    rest: str
    numbers: set[int] = field(default_factory=set)

    def missing(self) -> tuple[list[str], int]:
        """Return the first missing names, and how many are missing."""
        start = self._start()
        count = self.total - sum(start <= number < start + self.total for number in self.numbers)
        names: list[str] = []
        number = start
        while len(names) < min(_SHOWN, count):
            if number not in self.numbers:
                names.append(f"{self.stem}{number:0{self.width}}-of-{self.total:0{self.width}}{self.rest}")
            number += 1
        return names, count

    def _start(self) -> int:
        """Return the lowest number of the set: 0 or 1."""
        if 0 in self.numbers or self.total in self.numbers:
            return 0 if 0 in self.numbers else 1
        return 0 if _FROM_ZERO.search(self.rest) else 1


def _numbered_sets(paths: Iterable[str]) -> Iterator[_NumberedSet]:
    found: dict[tuple[str, str, str], _NumberedSet] = {}
    for path in sorted(paths):
        match = _NUMBERED.fullmatch(path)
        if match is None or len(match["number"]) != len(match["total"]):
            continue
        key = (match["stem"], match["total"], match["rest"])
        numbered = found.setdefault(
            key, _NumberedSet(path, match["stem"], len(match["total"]), int(match["total"]), match["rest"])
        )
        numbered.numbers.add(int(match["number"]))
    yield from found.values()
