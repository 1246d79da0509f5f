from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from reconciler.content import checksums
from reconciler.errors import BundleError
from tests.support.plant import plant

NAMES = st.text(
    st.characters(exclude_categories=("Cs",), exclude_characters="/\0"), min_size=1, max_size=20
).filter(lambda name: name not in (".", "..") and not name.startswith("./"))


@given(st.dictionaries(NAMES, st.binary(min_size=32, max_size=32)))
def test_what_is_rendered_is_parsed_again(digests: dict[str, bytes]) -> None:
    parsed = checksums.parse(checksums.render(digests.items()))
    assert parsed.malformed == ()
    assert {checksum.path: checksum.digest for checksum in parsed.entries} == digests
    assert [checksum.path for checksum in parsed.entries] == sorted(digests, key=str.encode)
    assert [checksum.line for checksum in parsed.entries] == list(range(1, len(digests) + 1))


def test_rendered_bytes_are_those_of_sha256sum(tmp_path: Path) -> None:
    contents = {"b": b"1", "a b": b"2", "back\\slash": b"3", "d/e": b"4", "é": b"", "line\nbreak": b"5"}
    plant(tmp_path, contents)
    names = sorted(contents, key=str.encode)
    theirs = subprocess.run(["sha256sum", "--", *names], cwd=tmp_path, check=True, capture_output=True).stdout
    assert checksums.render((name, hashlib.sha256(contents[name]).digest()) for name in contents) == theirs


NAMED = ("a", "b c", "d\\e", "s/f", "é", "*x", " y", "#z", "p)q")
FILES = {name: name.encode() * 2 for name in NAMED}
FORMS = {
    "plain": "{hex}  {path}",
    "binary": "{hex} *{path}",
    "one blank": "{hex} {path}",
    "tab": "{hex}\t{path}",
    "three blanks": "{hex}   {path}",
    "upper case": "{HEX}  {path}",
    "dot": "{hex}  ./{path}",
    "doubled": "{hex}  .//{path}",
    "inner dot": "{hex}  s/../{path}",
    "indented": " \t{hex}  {path}",
    "escaped": "\\{hex}  {escaped}",
    "badly escaped": "\\{hex}  {path}",
    "bsd": "SHA256 ({path}) = {hex}",
    "openssl": "SHA256({path})= {HEX}",
    "bsd tight": "SHA256 ({path})={hex}",
    "bsd escaped": "\\SHA256 ({escaped}) = {hex}",
    "bsd lower": "sha256 ({path}) = {hex}",
    "bsd trailing": "SHA256 ({path}) = {hex} ",
    "other algorithm": "MD5 ({path}) = 0cc175b9c0f1b6a831c399e269772661",
    "sha1": "0000000000000000000000000000000000000000  {path}",
    "too long": "{hex}0  {path}",
    "comment": "# {path}",
    "empty": "",
    "blanks": "   ",
    "signature": "-----BEGIN PGP SIGNATURE-----",
    "nothing": "{hex}",
    "no such file": "{hex}  none",
    "trailing blank": "{hex}  {path} ",
}


def line_of(form: str, path: str, *, right: bool) -> str:
    digest = hashlib.sha256(FILES[path]).hexdigest() if right else "0" * 64
    escaped = path.replace("\\", "\\\\")
    return FORMS[form].format(hex=digest, HEX=digest.upper(), path=path, escaped=escaped)


def passes(data: bytes, files: Mapping[str, bytes]) -> bool:
    """Return whether every file that the list names is there with its digest, as `sha256sum --check` does."""
    try:
        entries = checksums.parse(data).entries
    except BundleError:
        return False
    digests = {path: hashlib.sha256(content).digest() for path, content in files.items()}
    return bool(entries) and all(digests.get(entry.path) == entry.digest for entry in entries)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return plant(tmp_path_factory.mktemp("sums"), FILES)


LINES = st.tuples(
    st.sampled_from(list(FORMS)), st.sampled_from(list(FILES)), st.sampled_from([True] * 7 + [False])
)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lines=st.lists(LINES, min_size=1, max_size=5),
    end=st.sampled_from(["\n", "\r\n"]),
    last=st.booleans(),
)
@example(lines=[("badly escaped", "d\\e", True), ("one blank", "a", True)], end="\n", last=False)
@example(lines=[("tab", "a", True), ("plain", "b c", True)], end="\n", last=False)
def test_a_list_passes_exactly_when_sha256sum_accepts_it(
    directory: Path, lines: list[tuple[str, str, bool]], end: str, last: bool
) -> None:
    forms = [form for form, _, _ in lines]
    # after "one blank" or "tab", a blank before "s/../a" belongs to the path: we read `a`, they look for ` s`
    assume("inner dot" not in forms or not {"one blank", "tab"} & set(forms[: forms.index("inner dot")]))
    text = end.join(line_of(form, path, right=right) for form, path, right in lines) + (end if last else "")
    (directory / "SHA256SUMS").write_bytes(text.encode())
    theirs = subprocess.run(
        ["sha256sum", "--check", "--status", "SHA256SUMS"], cwd=directory, check=False, capture_output=True
    )
    assert passes(text.encode(), FILES) == (theirs.returncode == 0), text


@pytest.mark.parametrize("form", FORMS)
def test_each_form_alone_is_judged_as_by_sha256sum(directory: Path, form: str) -> None:
    for path in FILES:
        text = line_of(form, path, right=True) + "\n"
        (directory / "SHA256SUMS").write_text(text)
        theirs = subprocess.run(
            ["sha256sum", "--check", "--status", "SHA256SUMS"],
            cwd=directory,
            check=False,
            capture_output=True,
        )
        assert passes(text.encode(), FILES) == (theirs.returncode == 0), text


def test_a_signed_list_is_read_without_its_signature() -> None:
    digest = "ab" * 32
    text = f"-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n{digest}  a\n-----BEGIN PGP SIGNATURE-----\n"
    parsed = checksums.parse(text.encode())
    assert [(each.path, each.line) for each in parsed.entries] == [("a", 4)]
    assert parsed.malformed == (1, 2, 5)


@pytest.mark.parametrize("mark", ["\ufeff", ""])
def test_a_byte_order_mark_is_ignored(mark: str) -> None:
    assert checksums.parse(f"{mark}{'0' * 64}  a\n".encode()).entries[0].path == "a"


def test_a_name_that_begins_with_a_space_is_kept() -> None:
    (checksum,) = checksums.parse(f"{'0' * 64}    two blanks\n".encode()).entries
    assert checksum.path == "  two blanks"


@pytest.mark.parametrize(
    ("listed", "files", "found"),
    [
        ("e\u0301", ["\u00e9"], "\u00e9"),
        ("\u00e9", ["e\u0301"], "e\u0301"),
        ("d\u00e9/\u1e69", ["de\u0301/s\u0323\u0307"], "de\u0301/s\u0323\u0307"),
        ("e\u0301", ["\u00e9", "e\u0301"], "e\u0301"),
        ("\u212b", ["\u00c5", "A\u030a"], "\u212b"),
        ("A", ["a"], "A"),
    ],
)
def test_a_name_in_another_unicode_form_names_the_one_file_that_has_it(
    listed: str, files: list[str], found: str
) -> None:
    parsed = checksums.parse(f"{'0' * 64}  {listed}\n".encode())
    assert parsed.matched(files).entries[0].path == found
