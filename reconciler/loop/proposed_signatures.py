"""The signatures of the versions that a proposal resolves: `sign` in the Action, for the CIDs of this run.

They go where the CIDs go, in the same commit. A version that an open proposal has signed already is not
signed again, so that running twice changes nothing; one that another run proposed keeps its signatures as
long as its CID stays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from reconciler.content.cid import Cid
from reconciler.errors import DataError
from reconciler.forges.interface import CommitFiles
from reconciler.loop.sign import SignedRelease

if TYPE_CHECKING:
    from reconciler.trust.files import VersionSignatures

#: signs a version of this run by `model@version`, unless one of the signatures is already the same
SignVersion = Callable[[str, "VersionSignatures"], SignedRelease]


@dataclass
class ProposedSignatures:
    """The signatures that a proposal adds; `releases` is the directory of the index in its repository.

    `refs` are the versions that this run resolved, as `model@version`. `signers` are who signed what in the
    whole proposal, as `compose` last made it.
    """

    releases: PurePosixPath
    refs: frozenset[str]
    sign: SignVersion
    signers: dict[str, list[str]] = field(init=False, default_factory=dict)

    @property
    def directory(self) -> str:
        """The directory of all signatures in the repository."""
        from reconciler.trust.statement import SIGNATURES

        return str(self.releases / SIGNATURES)

    @property
    def items(self) -> list[str]:
        """One text for each version that this run signs."""
        return sorted(f"signature {ref}" for ref in self.refs)

    def compose(self, cids: Mapping[str, Cid], proposed: CommitFiles | None) -> dict[str, bytes]:
        """Return the files with the signatures of `cids` (by `model@version`): ours, and those proposed."""
        found: dict[str, bytes] = {}
        self.signers = {}
        for ref, cid in cids.items():
            kept = dict(self._proposed(ref, cid, proposed))
            if ref in self.refs:
                signed = self.sign(ref, _signatures(kept))
                self.signers.setdefault(signed.signer, []).append(ref)
                kept |= {str(self.releases / path): data for path, data in signed.files.items()}
            found |= kept
        return found

    def described(self) -> str:
        """Return who signed what, as Markdown; "" when nothing is signed."""
        lines = [
            f"Signed by `{name.replace('`', '')}`: {', '.join(f'`{ref}`' for ref in refs)}."
            for name, refs in self.signers.items()
        ]
        return "\n" + "\n".join(lines) + "\n" if lines else ""

    def _proposed(self, ref: str, cid: Cid, proposed: CommitFiles | None) -> Iterator[tuple[str, bytes]]:
        """Yield the files of signers that have signed this version and CID in the open proposal."""
        from reconciler.trust.dsse import parse_bundle
        from reconciler.trust.files import RELEASE_FILE, signature_path
        from reconciler.trust.statement import parse_statement

        if proposed is None:
            return
        model, _, version = ref.partition("@")
        below = self.releases / signature_path(model, version, "x", "x").parent.parent
        for path in sorted(proposed.changed):
            place = PurePosixPath(path)
            if place.name != RELEASE_FILE or place.parent.parent != below:
                continue
            try:
                data = proposed.read(path) or b""
                statement = parse_statement(parse_bundle(data).payload)
                if statement.sha256 != cid.digest.hex() or statement.name != ref:
                    continue
            except DataError:
                continue
            for beside in sorted(
                each for each in proposed.changed if PurePosixPath(each).parent == place.parent
            ):
                if (content := proposed.read(beside)) is not None:
                    yield beside, content


def _signatures(files: Mapping[str, bytes]) -> VersionSignatures:
    """Return the release bundles among `files`."""
    from reconciler.trust.files import RELEASE_FILE, VersionSignatures
    from reconciler.trust.policy import BundleFile

    return VersionSignatures(
        tuple(BundleFile(path, data) for path, data in files.items() if path.endswith(f"/{RELEASE_FILE}"))
    )
