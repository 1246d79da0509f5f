"""The examination: every check over the files of a release, from the first bytes of each file.

The checks are pure; the only input is what `LintFile.open` reads. A file costs its first 4 KiB, and more only
where its header is longer: at most 64 MiB for a GGUF vocabulary, far less for everything else.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePosixPath

from reconciler.content.gguf import MAGIC
from reconciler.content.lint.bounded_json import MAX_BYTES
from reconciler.content.lint.credentials import credential_flaws
from reconciler.content.lint.files import LintFile, LintSubject
from reconciler.content.lint.finding import (
    Finding,
    FindingCode,
    Flaw,
    ReadAt,
    finding,
    of_file,
    severity_order,
)
from reconciler.content.lint.gguf_header import gguf_flaws
from reconciler.content.lint.leftovers import partial_downloads, pointer_flaw, repositories
from reconciler.content.lint.pickle_header import pickle_flaws
from reconciler.content.lint.safetensors_header import safetensors_flaws
from reconciler.content.lint.shards import (
    WEIGHT_MAP_SUFFIX,
    WeightMap,
    missing_outputs,
    missing_shards,
    parse_weight_map,
)

_HEAD = 4096  #: bytes of each file that are read
_WEIGHTS = frozenset({
    ".safetensors", ".gguf", ".ggml", ".bin", ".pt", ".pth", ".ckpt", ".onnx", ".h5", ".hdf5", ".keras",
    ".msgpack", ".npz", ".npy", ".pb", ".tflite", ".pkl", ".pte", ".mlmodel", ".engine", ".pdparams",
})  # fmt: skip
_PAGE = re.compile(rb"\s*<(?:!doctype html|html|\?xml[^>]*>\s*<Error)", re.IGNORECASE)
_LICENSE_STEM = re.compile(
    r"(?:.*[-_ ])?(?:un)?licen[cs]es?(?:[-_ ].*)?|copying(?:[-_ ].*)?|eula", re.IGNORECASE
)
_CARD_LICENSE = re.compile(rb"(?m)^license(?:_name|_link)?:[ \t]*\S")


def examine(subject: LintSubject, *, licensed: bool) -> tuple[Finding, ...]:
    """Return the findings about `subject`, those that refuse first.

    `licensed`: the license is known otherwise, or none is needed. Raises what opening or reading a file
    raises.
    """
    found = [*_structure_findings(subject)]
    maps: list[WeightMap] = []
    descriptions: list[str] = []
    for file in subject.files:
        with file.open() as read:
            head = read(min(file.size, _HEAD), 0)
            found += (of_file(file.path, flaw) for flaw in _file_flaws(file, head, read))
            if file.path.endswith(WEIGHT_MAP_SUFFIX) and not _is_pointer(head, file.size):
                parsed = parse_weight_map(file.path, read(min(file.size, MAX_BYTES + 1), 0))
                if isinstance(parsed, WeightMap):
                    maps.append(parsed)
                elif parsed is not None:
                    found.append(parsed)
        if file.path.endswith(".dvc") and b"outs:" in head:
            descriptions.append(file.path)
        licensed = licensed or _names_license(file.path, head)
    paths = {file.path for file in subject.files}
    found += missing_shards(maps, paths)
    found += missing_outputs(descriptions, paths, set(subject.directories))
    if not licensed and subject.files:
        found.append(finding(FindingCode.NO_LICENSE, "", "nothing names the license of the files"))
    return tuple(sorted(found, key=severity_order))


def _structure_findings(subject: LintSubject) -> Iterator[Finding]:
    """Yield what follows from paths alone."""
    paths = [file.path for file in subject.files]
    yield from repositories(paths, subject.directories)
    yield from partial_downloads(paths)
    for path in subject.unfinished:
        yield finding(
            FindingCode.PARTIAL_DOWNLOAD,
            path,
            f"{path!r} is left from an interrupted download of other files",
        )
    filled = {str(parent) for path in paths for parent in PurePosixPath(path).parents}
    for directory in subject.directories:
        parent = directory.rpartition("/")[0]
        if directory not in filled and (not parent or parent in filled):
            yield finding(
                FindingCode.EMPTY_DIRECTORY,
                directory,
                f"{directory!r} is an empty directory: it is part of the CID, "
                "but git and object stores do not keep it",
            )


def _file_flaws(file: LintFile, head: bytes, read: ReadAt) -> Iterator[Flaw]:
    suffix = PurePosixPath(file.path).suffix.lower()
    if file.size == 0:
        if suffix in _WEIGHTS:
            yield Flaw(FindingCode.EMPTY_FILE, "is empty")
        return
    pointer = pointer_flaw(head, file.size)
    if pointer is not None:
        yield pointer
        return
    yield from credential_flaws(file.path, head, read, file.size)
    if suffix in _WEIGHTS and _PAGE.match(head):
        yield Flaw(FindingCode.INVALID_HEADER, "is a web page or an error message, not weights")
        return
    if suffix == ".safetensors":
        yield from safetensors_flaws(read, file.size)
    elif suffix == ".gguf" or head.startswith(MAGIC):
        yield from gguf_flaws(read, file.size)
    yield from pickle_flaws(file.path, head, read, file.size)


def _is_pointer(head: bytes, size: int) -> bool:
    return pointer_flaw(head, size) is not None


def _names_license(path: str, head: bytes) -> bool:
    """Return whether a file at the top names the license of the release, or is the license."""
    top, _, below = path.partition("/")
    if below:
        return top.lower() == "licenses"
    stem = top.partition(".")[0]
    if _LICENSE_STEM.fullmatch(stem):
        return True
    if top.lower() != "readme.md" or not head.startswith(b"---"):
        return False
    return _CARD_LICENSE.search(head.partition(b"\n---")[0]) is not None
