"""The files with signatures beside an index: `signatures/<model>/<version>/<signer>/<statement>`.

    release.sigstore.json       the release statement: what consumers demand
    oms.sigstore.json           the same files for other tools, in the form of OpenSSF Model Signing
    provenance.sigstore.json    the origin, in the form of SLSA

The folder of a signer has the first 16 hex digits of the digest of its key or identity, so two signers never
write the same file, and a consumer knows which files to ask for.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from reconciler.errors import DataError, TrustError, Where
from reconciler.trust.dsse import MAX_BUNDLE
from reconciler.trust.oms import MAX_OMS
from reconciler.trust.policy import BundleFile
from reconciler.trust.statement import SIGNATURES

RELEASE_FILE = "release.sigstore.json"
OMS_FILE = "oms.sigstore.json"
PROVENANCE_FILE = "provenance.sigstore.json"
LIMITS = {RELEASE_FILE: MAX_BUNDLE, PROVENANCE_FILE: MAX_BUNDLE, OMS_FILE: MAX_OMS}
_FOLDER = re.compile(r"[0-9a-f]{16}")
_MAX_FOLDERS = 64


@dataclass(frozen=True, slots=True)
class VersionSignatures:
    """The release and provenance bundles of one version, one of each for a signer at most."""

    release: tuple[BundleFile, ...] = ()
    provenance: tuple[BundleFile, ...] = ()


def signature_path(model: str, version: str, folder: str, name: str) -> PurePosixPath:
    """Return the path of a file with a signature, relative to the directory of the index."""
    return PurePosixPath(SIGNATURES, model, version, folder, name)


def read_signatures(releases: Path, model: str, version: str) -> VersionSignatures:
    """Return the signatures of a version in the directory of an index.

    What cannot be read is a bundle without bytes, so that a refusal names it. `model` and `version` must be
    valid names.
    """
    found: dict[str, list[BundleFile]] = {RELEASE_FILE: [], PROVENANCE_FILE: []}
    for folder in _folders(releases / SIGNATURES / model / version):
        for name, bundles in found.items():
            path = folder / name
            place = path.relative_to(releases).as_posix()
            try:
                if not stat.S_ISREG(path.lstat().st_mode):
                    raise OSError
                with path.open("rb") as file:
                    bundles.append(BundleFile(place, file.read(LIMITS[name] + 1)))
            except FileNotFoundError:
                continue
            except OSError:
                bundles.append(BundleFile(place, b""))
    return VersionSignatures(tuple(found[RELEASE_FILE]), tuple(found[PROVENANCE_FILE]))


def check_writable(releases: Path, path: PurePosixPath) -> Path:
    """Return where to write a signature below `releases`. Raises TrustError when a link leads elsewhere."""
    place = releases
    for part in path.parts[:-1]:
        place /= part
        if place.is_symlink():
            raise TrustError(
                "is a symbolic link, and signatures are written inside the repository only",
                hint="replace it by a directory",
                where=Where(str(place)),
            )
    return releases / path


def _folders(directory: Path) -> Iterator[Path]:
    """Yield the folders of signers in the order of their names. Raises DataError for very many."""
    try:
        with os.scandir(directory) as entries:
            names = sorted(
                each.name
                for each in entries
                if _FOLDER.fullmatch(each.name) and each.is_dir(follow_symlinks=False)
            )
    except OSError:
        return
    if len(names) > _MAX_FOLDERS:
        raise DataError(f"{str(directory)!r} has the signatures of {len(names)} signers, of {_MAX_FOLDERS}")
    yield from (directory / name for name in names)
