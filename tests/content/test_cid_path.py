"""CIDs as people copy them: schemes, links, paths; and the words that are none of these."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.content import cid as cids
from reconciler.content.cid import UnsupportedCidError
from reconciler.content.cid_path import CidPath, parse_cid_path
from reconciler.errors import DataError

CID = "bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354"
V0 = "QmUNLLsPACCz1vLxQVkXqqLX5R1X345qqfHbsf67hvA3Nn"
BLAKE3 = "bafyb4ifz7j6t3q64ddzrnsb7gvss4gutdwwfa7qfrdsglv6dtmwun34phm"


@pytest.mark.parametrize("cid", [CID, V0, CID.upper()])
@pytest.mark.parametrize(
    ("form", "path"),
    [
        ("{}", ""),
        ("{}/", ""),
        ("{}/a/b.bin", "a/b.bin"),
        ("{}//a//b.bin/", "a/b.bin"),
        ("{}/a%20b", "a%20b"),
        ("/ipfs/{}", ""),
        ("/ipfs/{}/a%20b", "a%20b"),
        ("/IPFS/{}/a?b", "a?b"),
        ("ipfs://{}", ""),
        ("IPFS://{}/a%20b", "a b"),
        ("ipfs:{}/a", "a"),
        ("ipfs://{}/a?filename=b#c", "a"),
        ("web+ipfs://{}/a", "a"),
        ("dweb:/ipfs/{}/a", "a"),
        ("https://gateway.example/ipfs/{}", ""),
        ("https://gateway.example/ipfs/{}/a%2Fb?format=car", "a/b"),
        ("http://user:s3cret@127.0.0.1:8080/ipfs/{}/a", "a"),
        ("https://{}.ipfs.gateway.example/a/b", "a/b"),
        ("http://{}.ipfs.localhost:8080", ""),
    ],
)
def test_every_form_gives_the_cid_and_the_path(form: str, path: str, cid: str) -> None:
    assert parse_cid_path(form.format(cid)) == CidPath(cids.parse(CID), path)


@pytest.mark.parametrize(
    "word", ["", "my-llm", "org/Name", "zephyr-7b", "falcon", "baichuan/b", "my-llm@^1.2", "./x", "/srv/ipfs"]
)
def test_the_name_of_a_model_is_no_cid(word: str) -> None:
    assert parse_cid_path(word) is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("ipfs://my-llm", "not a CID"),
        ("/ipfs/my-llm", "not a CID"),
        ("https://gateway.example/" + CID, "no CID after /ipfs/"),
        ("https://gateway.example/ipfs/" + CID[:-3], "."),
        (f"{CID}/../x", "contains"),
        (f"ipfs://{CID}/%2e%2e/x", "contains"),
        (f"{CID}/./x", "contains"),
        ("ipns://k51qzi5uqu5dgutdk6i1ynyzgkqngpha5xpgia3a5qqp4jsh0u4csozksxel2r", "IPNS"),
        ("/ipns/docs.example", "IPNS"),
    ],
)
def test_a_form_without_a_usable_cid_is_an_error(text: str, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        parse_cid_path(text)


@pytest.mark.parametrize("form", ["{}", "{}/a", "ipfs://{}", "/ipfs/{}/a", "https://gateway.example/ipfs/{}"])
def test_a_cid_of_another_hash_is_named_as_such_in_every_form(form: str) -> None:
    with pytest.raises(UnsupportedCidError, match="blake3"):
        parse_cid_path(form.format(BLAKE3))


@given(st.text(max_size=90))
def test_any_text_is_parsed_or_a_data_error(text: str) -> None:
    try:
        found = parse_cid_path(text)
    except DataError:
        return
    assert found is None or (".." not in found.path.split("/") and not found.path.startswith("/"))
