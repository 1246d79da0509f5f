"""The names in a sealed bundle, and how a sealed bundle is recognized.

Each file of the plain bundle, its SHA256SUMS and manifest.json included, becomes one age file with the suffix
`.age`; beside them is the SHA256SUMS of the age files, which is not sealed. With hidden names the age files
lie side by side under names that only the key can compute, and one more, `names.age`, lists which is which.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from reconciler.content import bounds, checksums
from reconciler.content.age.errors import AgeError
from reconciler.content.sealing.seal_key import SealKey
from reconciler.errors import BundleError, DataError
from reconciler.json_fields import JsonFields, load_json

SUFFIX = ".age"
SUMS = checksums.NAME + SUFFIX  #: the sealed SHA256SUMS of the plain files
NAMES = "names" + SUFFIX  #: in a bundle with hidden names: a JSON object
_LONGEST = 255  # bytes of a name


@dataclass(frozen=True, slots=True)
class SealedNames:
    """The name of the age file of each plain file, and the directories of the sealed bundle."""

    by_path: Mapping[str, str]
    directories: tuple[str, ...]
    hidden: bool = False


def name_sealed(
    paths: Iterable[str], directories: Collection[str], key: SealKey, *, hides_names: bool
) -> SealedNames:
    """Return the names of the age files of `paths`. Raises BundleError where two would have one name."""
    if hides_names:
        return SealedNames({path: key.hidden_name(path) + SUFFIX for path in paths}, (), hidden=True)
    found = {path: path + SUFFIX for path in paths}
    for path, sealed in found.items():
        if sealed in directories:
            raise BundleError(
                f"{path!r} cannot be sealed as {sealed!r}, which is a directory",
                hint="rename one of them, or set `names: sealed`",
            )
        if len(sealed.rpartition("/")[2].encode()) > _LONGEST:
            raise BundleError(
                f"{path!r} cannot be sealed as {sealed!r}: the name is longer than {_LONGEST} bytes",
                hint="shorten it, or set `names: sealed`",
            )
    if checksums.NAME in directories:
        raise BundleError(
            f"the directory {checksums.NAME!r} has the name of a file that a sealed bundle needs",
            hint="rename it, or set `names: sealed`",
        )
    return SealedNames(found, tuple(directories))


def render_names(names: SealedNames, directories: Iterable[str]) -> bytes:
    """Return the plain text of NAMES; `directories` are those of the plain bundle."""
    fields = {
        "directories": sorted(directories, key=str.encode),
        "files": {sealed: path for path, sealed in names.by_path.items()},
    }
    return (json.dumps(fields, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()


def is_sealed(paths: Collection[str]) -> bool:
    """Return whether a bundle with the files `paths` is a sealed one, with or without hidden names."""
    ages = [path for path in paths if path.endswith(SUFFIX)]
    return (
        checksums.NAME in paths
        and len(ages) == len(paths) - 1
        and (SUMS in paths or (NAMES in paths and all("/" not in path for path in ages)))
    )


def hides_names(paths: Collection[str]) -> bool:
    """Return whether the sealed bundle with the files `paths` has hidden names."""
    return SUMS not in paths


def plain_paths(sealed: Iterable[str]) -> dict[str, str]:
    """Return the path of the plain file of each age file in `sealed`, in a bundle that hides no names."""
    return {path: path.removesuffix(SUFFIX) for path in sealed if path != checksums.NAME}


def parse_names(data: bytes, sealed: Collection[str]) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return the path of the plain file of each age file in `sealed`, and the plain directories.

    `data` is the plain text of NAMES. Raises AgeError when it does not name exactly these files, each once
    and by a path inside of a directory.
    """
    fields = JsonFields(_loaded(data), AgeError)
    files = {name: value.text() for name, value in fields.members("files")}
    directories = tuple(item.text() for item in fields.items("directories"))
    expected = set(sealed) - {checksums.NAME, NAMES}
    twice = len(set(files.values())) != len(files) or len(set(directories)) != len(directories)
    if files.keys() != expected or twice:
        raise AgeError("does not list the files of its bundle")
    check_paths(files.values(), directories)
    return files, directories


def check_paths(files: Collection[str], directories: Collection[str]) -> None:
    """Check that plain files and directories with these paths can be written. Raises AgeError."""
    entries = (*files, *directories)
    try:
        for part in {part for entry in entries for part in entry.encode().split(b"/")}:
            bounds.decode_name(part)
    except (DataError, UnicodeEncodeError):
        raise AgeError("has a path that leads out of the directory") from None
    parents = {path.rpartition("/")[0] for path in entries} - {""}  # those of directories included
    if parents - set(directories) or set(directories) & set(files):
        raise AgeError("has files that are not in directories, or in files")


def _loaded(data: bytes) -> object:
    try:
        return load_json(data.decode())
    except ValueError:
        raise AgeError("is not a list of names") from None
