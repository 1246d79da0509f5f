"""The judgement of the signatures of one release: what counts, and what a refusal says."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given
from hypothesis import strategies as st

from reconciler.content.cid import DAG_PB, RAW, Cid
from reconciler.errors import DataError, ExitCode, TrustError
from reconciler.trust.policy import BundleFile, CertifiedSigner, KeyHolder, TrustPolicy, check_policy, judge
from reconciler.trust.provenance import ProvenanceRule, ReleaseOrigin, render_provenance_statement
from reconciler.trust.statement import Release, encode_statement, render_release
from tests.support.signing import (
    RELEASE,
    bundle,
    found,
    holder,
    new_authority,
    policy,
    public_key,
    signer,
)

OTHER_ROOT = Cid(DAG_PB, b"\1" * 32)


def signed(payload: bytes, number: int = 0) -> BundleFile:
    return found(signer(number).sign(payload).bundle)


def test_a_release_that_an_accepted_key_signed_is_accepted() -> None:
    verdict = judge(RELEASE, [found(bundle())], [], policy())
    assert verdict.accepted
    assert verdict.signers == ("holder 0",)
    verdict.require()


def test_an_unsigned_release_is_refused_with_its_own_reason_and_exit_code() -> None:
    with pytest.raises(TrustError, match=r"acme/llm@1\.2\.0 is not signed") as raised:
        judge(RELEASE, [], [], policy()).require()
    assert raised.value.exit_code is ExitCode.REFUSED


OTHER_RELEASES = {
    "another root": replace(RELEASE, cid=OTHER_ROOT),
    "another version": replace(RELEASE, version="1.1.0"),
    "another model": replace(RELEASE, model="acme/other"),
    "another index": replace(RELEASE, index="evil-models"),
    "another SHA256SUMS": replace(RELEASE, dirhash="cd" * 32),
    "another size": replace(RELEASE, size=1),
    "the same digest under another codec": replace(RELEASE, cid=Cid(RAW, RELEASE.cid.digest)),
}


@pytest.mark.parametrize("case", OTHER_RELEASES)
def test_a_signature_of_another_release_does_not_count(case: str) -> None:
    """A valid signature must not be replayed: it names index, model, version, root, sums and size."""
    verdict = judge(RELEASE, [found(bundle(release=OTHER_RELEASES[case]))], [], policy())
    assert not verdict.accepted
    with pytest.raises(TrustError, match="refused by a trust rule: no accepted signer"):
        verdict.require()


@given(st.integers(0, 31), st.integers(1, 255))
def test_no_change_of_a_signed_byte_is_accepted(position: int, flip: int) -> None:
    digest = bytearray(RELEASE.cid.digest)
    digest[position] ^= flip
    altered = replace(RELEASE, cid=Cid(DAG_PB, bytes(digest)))
    assert not judge(altered, [found(bundle())], [], policy()).accepted


def statement(**changes: object) -> bytes:
    document = json.loads(render_release(RELEASE))
    document.update(changes)
    return json.dumps(document).encode()


SUBJECT = json.loads(render_release(RELEASE))["subject"][0]
STATEMENTS = {
    "two subjects": (statement(subject=[SUBJECT, SUBJECT]), "2 subjects"),
    "no subject": (statement(subject=[]), "0 subjects"),
    "another type": (statement(_type="https://in-toto.io/Statement/v0.1"), "has the type"),
    "another predicate": (statement(predicateType="https://example.com/x"), "not 'urn:model-reconciler"),
    "no predicate": (statement(predicate=None), "'predicate.cid' is not a string"),
    "a digest of another kind": (
        statement(subject=[{**SUBJECT, "digest": {"sha512": "00"}}]),
        "digest.sha256",
    ),
    "a name of another version": (statement(subject=[{**SUBJECT, "name": "acme/llm@1.1.0"}]), "1.1.0"),
    "an address of another root": (
        statement(subject=[{**SUBJECT, "uri": f"ipfs://{OTHER_ROOT}"}]),
        "the signature names",
    ),
    "a name twice": (b'{"_type": "a", "_type": "b"}', "occurs twice"),
    "no JSON": (b"signed", "not JSON"),
}


@pytest.mark.parametrize("case", STATEMENTS)
def test_a_signed_statement_that_says_something_else_does_not_count(case: str) -> None:
    payload, message = STATEMENTS[case]
    verdict = judge(RELEASE, [signed(payload)], [], policy())
    assert not verdict.accepted
    assert message in verdict.problems[0]


def altered(change: str) -> bytes:
    document = json.loads(bundle())
    if change == "payload":
        other = bundle(release=replace(RELEASE, version="1.1.0"))
        document["dsseEnvelope"]["payload"] = json.loads(other)["dsseEnvelope"]["payload"]
    elif change == "signature":
        other = bundle(1)
        document["dsseEnvelope"]["signatures"] = json.loads(other)["dsseEnvelope"]["signatures"]
    else:
        document["dsseEnvelope"]["signatures"][0]["sig"] = "MEUCIQ=="
    return json.dumps(document).encode()


@pytest.mark.parametrize("change", ["payload", "signature", "der"])
def test_an_altered_bundle_does_not_count(change: str) -> None:
    verdict = judge(RELEASE, [found(altered(change))], [], policy())
    assert not verdict.accepted
    assert "the signature is not one of key" in verdict.problems[0]


def test_a_signature_of_a_foreign_key_does_not_count() -> None:
    assert not judge(RELEASE, [found(bundle(1))], [], policy(0)).accepted


def test_a_broken_bundle_beside_a_good_one_changes_nothing() -> None:
    assert judge(RELEASE, [found(b"{}"), found(bundle())], [], policy()).accepted


def test_a_threshold_needs_as_many_signers() -> None:
    two = policy(0, 1, 2, threshold=2)
    one = judge(RELEASE, [found(bundle(0))], [], two)
    assert not one.accepted
    with pytest.raises(TrustError, match="1 of 2 signers"):
        one.require()
    assert judge(RELEASE, [found(bundle(0)), found(bundle(2))], [], two).accepted


def test_a_signer_counts_once() -> None:
    """The same bundle twice, and two entries of the policy with one key, are one signer."""
    twice = TrustPolicy((holder(0), replace(holder(0), label="the same key")), 2)
    assert not judge(RELEASE, [found(bundle(0)), found(bundle(0))], [], twice).accepted
    with pytest.raises(DataError, match="2 signatures are demanded of 1 distinct signers"):
        check_policy(twice)
    check_policy(policy(0, 1, threshold=2))


def test_a_key_is_accepted_until_a_day() -> None:
    until = date(2026, 6, 1)
    expiring = TrustPolicy((KeyHolder(public_key(0), "acme", until),))
    day = datetime(2026, 6, 1, 23, 59, tzinfo=UTC)
    assert judge(RELEASE, [found(bundle())], [], expiring, day).accepted
    late = judge(RELEASE, [found(bundle())], [], expiring, day + timedelta(hours=1))
    assert late.problems == ("release.sigstore.json: acme is accepted until 2026-06-01 only",)


def test_a_bare_cid_is_compared_by_its_digest_alone() -> None:
    bare = Release(None, "", "", RELEASE.cid)
    assert judge(bare, [found(bundle())], [], policy()).accepted
    assert not judge(replace(bare, cid=OTHER_ROOT), [found(bundle())], [], policy()).accepted


@pytest.mark.parametrize("curve", [ec.SECP384R1, ec.SECP521R1])
def test_keys_on_larger_curves_count(curve: type[ec.EllipticCurve]) -> None:
    made = signer(0, curve)
    other = TrustPolicy((KeyHolder(made.key, "large"),))
    assert judge(RELEASE, [found(made.sign(render_release(RELEASE)).bundle)], [], other).accepted


# -- certificates of an authority of one's own


def certified(**how: object) -> BundleFile:
    leaf = AUTHORITY.issue("release", **{"identity": "release@acme.example", **how})  # type: ignore[arg-type]
    return found(leaf.bundle(render_release(RELEASE)))


AUTHORITY = new_authority()
NOW = datetime.now(UTC)
BY_AUTHORITY = TrustPolicy((CertifiedSigner((AUTHORITY.der,), "release@acme.example", "acme"),))


def test_a_certificate_of_the_authority_counts() -> None:
    assert judge(RELEASE, [certified()], [], BY_AUTHORITY).accepted


def test_a_chain_through_an_intermediate_authority_counts() -> None:
    between = AUTHORITY.issue("between", authority=True)
    leaf = between.issue("release", identity="release@acme.example")
    good = leaf.bundle(render_release(RELEASE), between)
    assert judge(RELEASE, [found(good)], [], BY_AUTHORITY).accepted
    assert not judge(RELEASE, [found(leaf.bundle(render_release(RELEASE)))], [], BY_AUTHORITY).accepted


def test_an_authority_for_leaves_makes_no_authorities() -> None:
    """A path length of 0 allows leaves, and no further authority."""
    between = AUTHORITY.issue("between", authority=True, path_length=0)
    leaf = between.issue("release", identity="release@acme.example")
    assert judge(RELEASE, [found(leaf.bundle(render_release(RELEASE), between))], [], BY_AUTHORITY).accepted
    lower = between.issue("lower", authority=True)
    below = lower.issue("release", identity="release@acme.example")
    chain = below.bundle(render_release(RELEASE), lower, between)
    assert not judge(RELEASE, [found(chain)], [], BY_AUTHORITY).accepted


def test_a_certificate_that_demands_what_is_not_checked_does_not_count() -> None:
    names = x509.NameConstraints([x509.RFC822Name("other.example")], None)
    between = AUTHORITY.issue("between", authority=True, demands=names)
    leaf = between.issue("release", identity="release@acme.example")
    verdict = judge(RELEASE, [found(leaf.bundle(render_release(RELEASE), between))], [], BY_AUTHORITY)
    assert "the critical extension 2.5.29.30" in verdict.problems[0]


def test_a_leaf_is_no_authority() -> None:
    middle = AUTHORITY.issue("release", identity="release@acme.example")
    leaf = middle.issue("evil", identity="release@acme.example")
    assert not judge(
        RELEASE, [found(leaf.bundle(render_release(RELEASE), middle))], [], BY_AUTHORITY
    ).accepted


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"until": NOW - timedelta(days=1)}, "expired on"),
        ({"since": NOW + timedelta(days=1)}, "is not valid before"),
        ({"identity": "other@acme.example"}, "is for 'other@acme.example'"),
        ({"usage": ExtendedKeyUsageOID.SERVER_AUTH}, "may not sign code"),
    ],
)
def test_a_certificate_that_does_not_fit_does_not_count(how: dict[str, object], message: str) -> None:
    verdict = judge(RELEASE, [certified(**how)], [], BY_AUTHORITY)
    assert not verdict.accepted
    assert message in verdict.problems[0]


def test_a_certificate_of_another_authority_does_not_count() -> None:
    other = new_authority()
    leaf = other.issue("release", identity="release@acme.example")
    verdict = judge(RELEASE, [found(leaf.bundle(render_release(RELEASE), other))], [], BY_AUTHORITY)
    assert "no accepted authority issued" in verdict.problems[0]


# -- provenance


BUILDER = "https://github.com/acme/models/.github/workflows/release.yml@refs/heads/main"
JOB = {
    "GITHUB_ACTIONS": "true",
    "GITHUB_REPOSITORY": "acme/models",
    "GITHUB_REF": "refs/heads/main",
    "GITHUB_WORKFLOW_REF": "acme/models/.github/workflows/release.yml@refs/heads/main",
    "GITHUB_SHA": "12" * 20,
    "GITHUB_RUN_ID": "7",
}
HUB = ReleaseOrigin("hf:acme/LLM@" + "34" * 20, "huggingface", "34" * 20)


def provenance(
    origin: ReleaseOrigin = HUB, environ: dict[str, str] = JOB, release: Release = RELEASE
) -> BundleFile:
    return signed(render_provenance_statement(release, origin, environ))


@pytest.mark.parametrize(
    ("rule", "accepted"),
    [
        (ProvenanceRule(), True),
        (ProvenanceRule(builder=BUILDER), True),
        (ProvenanceRule(source="git+https://huggingface.co/acme/LLM"), True),
        (ProvenanceRule(source="git+https://github.com/acme/models"), True),
        (ProvenanceRule(BUILDER, "git+https://github.com/acme/models@refs/heads/main"), True),
        (ProvenanceRule(builder=BUILDER + "x"), False),
        (ProvenanceRule(source="git+https://github.com/acme"), False),
    ],
)
def test_provenance_is_compared_exactly(rule: ProvenanceRule, accepted: bool) -> None:
    demanding = replace(policy(), provenance=rule)
    verdict = judge(RELEASE, [found(bundle())], [provenance()], demanding)
    assert verdict.accepted is accepted
    assert verdict.builder == (BUILDER if accepted else "")


def test_provenance_that_is_missing_or_of_another_root_or_unsigned_is_refused() -> None:
    demanding = replace(policy(), provenance=ProvenanceRule())
    other = provenance(release=replace(RELEASE, cid=OTHER_ROOT))
    foreign = found(signer(3).sign(render_provenance_statement(RELEASE, HUB, JOB)).bundle)
    for given_ in ([], [other], [foreign], [found(bundle())]):
        assert not judge(RELEASE, [found(bundle())], given_, demanding).accepted


def test_provenance_alone_does_not_release_anything() -> None:
    demanding = replace(policy(), provenance=ProvenanceRule())
    assert not judge(RELEASE, [provenance()], [provenance()], demanding).accepted


def test_a_local_publication_has_the_commit_of_its_index() -> None:
    local = json.loads(render_provenance_statement(RELEASE, ReleaseOrigin(commit="56" * 20), {}))
    assert local["predicate"]["runDetails"]["builder"]["id"] == "urn:model-reconciler:builder:local"
    assert local["predicate"]["buildDefinition"]["resolvedDependencies"] == [
        {"digest": {"gitCommit": "56" * 20}, "name": "index"}
    ]


def test_the_statement_of_a_release_is_the_contract() -> None:
    """Verifiers elsewhere read these bytes; they depend on the release alone."""
    digest = RELEASE.cid.digest.hex()
    predicate = {
        "index": "acme-models",
        "model": "acme/llm",
        "version": "1.2.0",
        "cid": str(RELEASE.cid),
        "dirhash": RELEASE.dirhash,
        "size": 12345,
    }
    subject = {"name": "acme/llm@1.2.0", "uri": f"ipfs://{RELEASE.cid}", "digest": {"sha256": digest}}
    assert render_release(RELEASE) == encode_statement("urn:model-reconciler:release:v1", subject, predicate)
