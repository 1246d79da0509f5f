"""The check of a model that somebody else signed with OpenSSF Model Signing: every file of a directory.

The statement is trusted only after its signature was verified; then each file is hashed and compared, and
what the statement neither lists nor leaves out is an extra file. Nothing is known about the model but what
its signer wrote.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from reconciler.consume.verify import Difference, DifferenceKind
from reconciler.content.scan import scan
from reconciler.errors import TrustError, UsageError
from reconciler.progress import Progress
from reconciler.trust.dsse import parse_bundle
from reconciler.trust.oms import MAX_OMS, SINGLE_FILE, SignedModel, SignedSpan, new_hash, parse_model
from reconciler.trust.policy import AcceptedSigner
from reconciler.trust.public_keys import SignatureError
from reconciler.trust.statement import parse_statement

SIGNATURE_NAMES = ("model.sig", "oms.sigstore.json")  #: of the bundle, among the files
_READ_SIZE = 1 << 20


@dataclass(frozen=True, slots=True)
class ForeignModel:
    """A model whose signature is good: who signed it, and how the files differ from what was signed.

    `uncovered` are files that the signature leaves out by its own word.
    """

    signer: str
    files: int
    size: int
    differences: tuple[Difference, ...]
    uncovered: tuple[str, ...]


def find_signature(model: Path) -> Path:
    """Return the signature of a model, in its directory or, for a file, beside it. Raises UsageError."""
    if model.is_file():
        places = [model.with_name(model.name + ".sig"), model.with_name(SIGNATURE_NAMES[0])]
    else:
        places = [model / name for name in SIGNATURE_NAMES]
    for place in places:
        if place.is_file():
            return place
    raise UsageError(
        f"{str(model)!r} has no signature",
        hint=f"put the bundle of its signer at {str(places[0])!r}",
    )


def check_model(model: Path, signers: Sequence[AcceptedSigner], progress: Progress) -> ForeignModel:
    """Verify the signature of the model at `model` by one of `signers`, and every file against it.

    Raises UsageError without a signature, TrustError when no signer made it, DataError when what is signed is
    malformed, and BundleError for files that cannot be read.
    """
    signature = find_signature(model)
    with signature.open("rb") as file:
        data = file.read(MAX_OMS + 1)
    signer, signed = _signed_model(data, signature, signers)
    if model.is_file():
        found: Mapping[str, Path] = {SINGLE_FILE: model}
    else:
        listing = scan(model, include_hidden=True)
        found = {file.path: listing.locate(file) for file in listing.files}
    ours = {signature.name} if not model.is_file() else set()
    covered = {path: place for path, place in found.items() if signed.covers(path) and path not in ours}
    uncovered = tuple(sorted(found.keys() - covered.keys() - ours))
    spans: dict[str, list[SignedSpan]] = {}
    for span in signed.spans:
        spans.setdefault(span.path, []).append(span)
    differences = [Difference(path, DifferenceKind.MISSING) for path in spans.keys() - covered.keys()]
    differences += [Difference(path, DifferenceKind.EXTRA) for path in covered.keys() - spans.keys()]
    present = sorted(spans.keys() & covered.keys())
    size = sum(covered[path].stat().st_size for path in present)
    with progress.task(f"comparing {model.name}", size) as task:
        for path in present:
            offsets = [
                span.start
                for span in spans[path]
                if _digest(covered[path], span, signed.algorithm, task.advance) != span.digest
            ]
            if offsets or not _is_whole(covered[path], spans[path]):
                shown = () if len(spans[path]) == 1 else tuple(offsets)
                differences.append(Difference(path, DifferenceKind.CHANGED, shown))
    ordered = tuple(sorted(differences, key=lambda each: each.path.encode()))
    return ForeignModel(signer, len(present), size, ordered, uncovered)


def _signed_model(data: bytes, place: Path, signers: Sequence[AcceptedSigner]) -> tuple[str, SignedModel]:
    """Return who signed, and what. Raises TrustError, DataError."""
    bundle = parse_bundle(data, limit=MAX_OMS)
    reasons = []
    for signer in signers:
        try:
            payload = signer.verify(bundle, datetime.now(UTC))
        except SignatureError as error:
            reasons.append(error.message)
            continue
        return signer.label, parse_model(parse_statement(payload))
    raise TrustError(
        f"{str(place)!r} is not signed by an accepted signer: {reasons[-1] if reasons else 'none is named'}",
        hint="compare the key with what the publisher of the model announces",
    )


def _is_whole(path: Path, spans: Sequence[SignedSpan]) -> bool:
    """Return whether the parts of a file follow each other from its start to its end."""
    size, end = path.stat().st_size, 0
    for span in sorted(spans, key=lambda each: each.start):
        if span.start != end:
            return False
        end = size if span.end is None else span.end
    return end == size


def _digest(path: Path, span: SignedSpan, algorithm: str, advance: Callable[[int], object]) -> str:
    """Return the digest of a part of a file."""
    hasher = new_hash(algorithm)
    with path.open("rb") as file:
        file.seek(span.start)
        left = None if span.end is None else span.end - span.start
        while left is None or left > 0:
            data = file.read(_READ_SIZE if left is None else min(left, _READ_SIZE))
            if not data:
                break
            hasher.update(data)
            advance(len(data))
            left = None if left is None else left - len(data)
    return hasher.hexdigest()
