from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest

from reconciler.trust import dsse
from reconciler.trust.dsse import MAX_BUNDLE, BundleFormatError, parse_bundle
from tests.support.signing import bundle, new_authority

Change = Callable[[dict[str, Any]], object]


def changed(change: Change) -> bytes:
    document = json.loads(bundle())
    change(document)
    return json.dumps(document).encode()


def material(value: object) -> Change:
    return lambda document: document.update(verificationMaterial=value)


def envelope(**fields: object) -> Change:
    return lambda document: document["dsseEnvelope"].update(fields)


CERTIFICATE = {"rawBytes": base64.b64encode(b"der").decode()}
REFUSED: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "not JSON"),
    "not UTF-8": (b"\xff{}", "not JSON"),
    "a list": (b"[]", "is not a string"),
    "a name twice": (b'{"mediaType": "a", "mediaType": "b"}', "occurs twice"),
    "nested deeply": (b"[" * 50_000, "not JSON"),
    "10 MB": (b" " * 10_000_000, f"larger than {MAX_BUNDLE} bytes"),
    "another media type": (
        changed(lambda d: d.update(mediaType="application/vnd.dev.sigstore.bundle+json;version=0.3")),
        "media type",
    ),
    "a media type with more at its end": (
        changed(lambda d: d.update(mediaType=dsse.MEDIA_TYPE + ";x=1")),
        "media type",
    ),
    "no envelope": (changed(lambda d: d.pop("dsseEnvelope")), "'dsseEnvelope.payloadType' is not a string"),
    "another payload type": (changed(envelope(payloadType="text/plain")), "payload type 'text/plain'"),
    "no signature": (changed(envelope(signatures=[])), "0 signatures"),
    "two signatures": (changed(envelope(signatures=[{"sig": "AA=="}] * 2)), "2 signatures"),
    "an empty signature": (changed(envelope(signatures=[{"sig": ""}])), "a signature of 0 bytes"),
    "a large signature": (changed(envelope(signatures=[{"sig": "AAAA" * 1000}])), "3000 bytes"),
    "a signature that is not base64": (changed(envelope(signatures=[{"sig": "AA"}])), "is not base64"),
    "a payload in the alphabet of URLs": (changed(envelope(payload="-_==")), "is not base64"),
    "a signature of a file": (changed(lambda d: d.update(messageSignature={})), "a file and not a statement"),
    "no verification material": (changed(lambda d: d.pop("verificationMaterial")), "is not an object"),
    "empty verification material": (changed(material({})), "has nothing to verify it with"),
    "two kinds of material": (
        changed(material({"publicKey": {"hint": ""}, "certificate": CERTIFICATE})),
        "publicKey and certificate",
    ),
    "a key without a hint": (changed(material({"publicKey": {}})), "without a hint"),
    "a certificate without a log entry": (
        changed(material({"certificate": CERTIFICATE})),
        "no entry of a log",
    ),
    "an empty chain": (changed(material({"x509CertificateChain": {"certificates": []}})), "0 certificates"),
    "a long chain": (
        changed(material({"x509CertificateChain": {"certificates": [CERTIFICATE] * 11}})),
        "11 certificates",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_malformed_bundle_is_refused(case: str) -> None:
    data, message = REFUSED[case]
    with pytest.raises(BundleFormatError, match=message):
        parse_bundle(data)


@pytest.mark.parametrize(
    "change",
    {
        "no entries of a log": material({"publicKey": {"hint": "x"}}),
        "an empty hint": material({"publicKey": {"hint": ""}, "tlogEntries": []}),
        "the key of an older program": material({"publicKey": {"rawBytes": "AAAA"}}),
        "no key id": lambda d: d["dsseEnvelope"]["signatures"][0].pop("keyid"),
        "a key id of null": lambda d: d["dsseEnvelope"]["signatures"][0].update(keyid=None),
        "an unknown field": lambda d: d.update(extra=1),
    }.values(),
)
def test_what_other_programs_write_is_accepted(change: Change) -> None:
    assert parse_bundle(changed(change)).payload == parse_bundle(bundle()).payload


def test_a_chain_is_read_leaf_first() -> None:
    root = new_authority()
    leaf = root.issue("leaf")
    parsed = parse_bundle(leaf.bundle(b"{}", root))
    assert parsed.certificates == (leaf.der, root.der)
    assert not parsed.logged


def test_the_signed_bytes_have_type_and_length() -> None:
    assert dsse.pre_authentication_encoding(b"{}") == b"DSSEv1 28 application/vnd.in-toto+json 2 {}"
