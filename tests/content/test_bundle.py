from __future__ import annotations

import hashlib
import json
import os
import subprocess
from pathlib import Path

import pytest

from reconciler.content.bundle import Bundle, bare_bundle, make_bundle
from reconciler.content.identify import identify
from reconciler.content.scan import scan
from reconciler.errors import BundleError, SourceChangedError
from tests.support.plant import plant

WEIGHTS = {"model.safetensors": b"weights" * 1000, "config.json": b"{}", "tokenizer.json": b"[]"}


def bundle_of(root: Path, *, include_hidden: bool = False) -> Bundle:
    listing = scan(root, include_hidden=include_hidden)
    return make_bundle(
        listing, model="my-llm-7b", version="1.2.0", format="safetensors", created_at="2026-05-07T00:00:00Z"
    )


def content_of(root: Path) -> dict[str, bytes]:
    """Return the bytes of the generated files by name."""
    bundle = bundle_of(root)
    digests = {
        file.path: hashlib.sha256((root / file.path).read_bytes()).digest() for file in bundle.listing.files
    }
    return {file.path: file.data for file in bundle.complete(digests)}


@pytest.fixture
def by_hand(tmp_path: Path) -> Path:
    """A bundle as in the tutorial: sha256sum over the files, a manifest without a sum."""
    root = plant(tmp_path / "my-llm-7b", WEIGHTS)
    subprocess.run(
        "sha256sum model.safetensors config.json tokenizer.json > SHA256SUMS",
        cwd=root,
        shell=True,
        check=True,
    )
    manifest = {
        "model": "my-llm-7b",
        "format": "safetensors",
        "created_at": "2026-05-07T00:00:00Z",
        "files": ["model.safetensors", "config.json", "tokenizer.json", "SHA256SUMS"],
    }
    (root / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")
    return root


def test_a_correct_bundle_made_by_hand_is_kept_byte_for_byte(by_hand: Path) -> None:
    assert bundle_of(by_hand).generated == ()
    made = identify(bundle_of(by_hand), cache=None).identity
    bare = identify(bare_bundle(by_hand), cache=None).identity
    assert made.root == bare.root
    assert made.dirhash == hashlib.sha256((by_hand / "SHA256SUMS").read_bytes()).hexdigest()


def test_a_changed_file_is_reported_with_both_sums(by_hand: Path) -> None:
    (by_hand / "config.json").write_bytes(b"{ }")
    expected, actual = (hashlib.sha256(data).hexdigest() for data in (b"{}", b"{ }"))
    with pytest.raises(BundleError) as caught:
        identify(bundle_of(by_hand), cache=None)
    assert (
        str(caught.value)
        == f"SHA256SUMS:2: wrong sum for 'config.json': expected {expected}, actual {actual}"
    )


@pytest.mark.parametrize("missing", ["manifest.json", "SHA256SUMS"])
def test_the_missing_special_file_is_generated_and_the_other_kept(by_hand: Path, missing: str) -> None:
    (by_hand / missing).unlink()
    identity = identify(bundle_of(by_hand), cache=None).identity
    assert bundle_of(by_hand).generated == (missing,)
    assert missing in {file.path for file in identity.files}
    assert not (by_hand / missing).exists()


def test_generated_files_pass_sha256sum_and_our_own_check(tmp_path: Path) -> None:
    root = plant(tmp_path, {**WEIGHTS, "sub/é b": b"1", "back\\slash": b"2"})
    generated = content_of(root)
    plant(root, generated)
    subprocess.run(
        ["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=root, check=True, capture_output=True
    )
    assert content_of(root) == {}


def test_generating_and_keeping_give_one_root(tmp_path: Path) -> None:
    root = plant(tmp_path, WEIGHTS)
    first = identify(bundle_of(root), cache=None).identity
    plant(root, content_of(root))
    assert identify(bundle_of(root), cache=None).identity == first


def test_the_dirhash_is_that_of_the_in_toto_command(tmp_path: Path) -> None:
    root = plant(tmp_path, {**WEIGHTS, "sub/z": b"1", "sub-a": b"2"})
    identity = identify(bundle_of(root), cache=None).identity
    generated = content_of(root)
    (root / "manifest.json").write_bytes(generated["manifest.json"])
    command = "find . -type f | cut -c3- | LC_ALL=C sort | xargs -r sha256sum | sha256sum | cut -f1 -d' '"
    theirs = subprocess.run(command, cwd=root, shell=True, check=True, capture_output=True, text=True).stdout
    assert identity.dirhash == theirs.strip()


def test_a_sum_listed_for_the_generated_manifest_is_checked(tmp_path: Path) -> None:
    root = plant(tmp_path, WEIGHTS)
    generated = content_of(root)
    (root / "SHA256SUMS").write_bytes(generated["SHA256SUMS"])
    made = identify(bundle_of(root), cache=None).identity
    assert made.dirhash == hashlib.sha256(generated["SHA256SUMS"]).hexdigest()
    other = make_bundle(scan(root, include_hidden=False), model="my-llm-7b", version="1.3.0")
    with pytest.raises(BundleError, match=r"wrong sum for 'manifest\.json'"):
        identify(other, cache=None)


@pytest.mark.parametrize("name", ["manifest.json", "SHA256SUMS"])
def test_a_special_file_that_changes_after_its_check_is_an_error(by_hand: Path, name: str) -> None:
    bundle = bundle_of(by_hand)
    with (by_hand / name).open("ab") as file:
        file.write(b"\n")
    with pytest.raises(SourceChangedError, match=name):
        identify(bundle, cache=None)


def test_a_special_file_with_another_digest_at_the_end_is_an_error(by_hand: Path) -> None:
    bundle = bundle_of(by_hand)
    digests = {file.path: bytes(32) for file in bundle.listing.files}
    with pytest.raises(SourceChangedError, match=r"'manifest\.json' changed"):
        bundle.complete(digests)


def test_a_special_name_in_a_subdirectory_is_an_ordinary_file(tmp_path: Path) -> None:
    root = plant(tmp_path, {"sub/manifest.json": b"not json", "sub/SHA256SUMS": b"no sums"})
    paths = [file.path for file in identify(bundle_of(root), cache=None).identity.files]
    assert paths == ["SHA256SUMS", "manifest.json", "sub/SHA256SUMS", "sub/manifest.json"]


def test_a_special_file_above_the_limit_is_not_read(tmp_path: Path) -> None:
    root = plant(tmp_path, {"a": b""})
    with (root / "SHA256SUMS").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(BundleError, match="the limit is"):
        bundle_of(root)


def test_a_bare_bundle_is_the_directory_or_file_unchanged(tmp_path: Path) -> None:
    root = plant(tmp_path, {"a": b"1", ".hidden": b"2", "SHA256SUMS": b"no sums"})
    assert [file.path for file in bare_bundle(root).listing.files] == ["SHA256SUMS", "a"]
    assert len(bare_bundle(root, include_hidden=True).listing.files) == 3
    assert bare_bundle(root / "a").single_file
    assert identify(bare_bundle(root / "a"), cache=None).identity.dirhash is None


@pytest.mark.parametrize("name", ["none", "link", "fifo"])
def test_a_bare_bundle_of_a_special_file_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "link").symlink_to("a")
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(BundleError, match=name):
        bare_bundle(tmp_path / name)


WEB_APP = b'{"name": "App", "icons": []}\n'


@pytest.mark.parametrize(
    ("special", "generated", "note"),
    [
        ({"manifest.json": WEB_APP}, ("SHA256SUMS",), "'manifest.json' is content, so no manifest.json"),
        ({"Manifest.json": WEB_APP}, ("SHA256SUMS",), "'Manifest.json' is content, so no manifest.json"),
        ({"MANIFEST.JSON/x": b"1"}, ("SHA256SUMS",), "'MANIFEST.JSON' is content"),
        ({"manifest.json/x": b"1"}, ("SHA256SUMS",), "'manifest.json' is content"),
        ({"sha256sums": b"other"}, ("manifest.json",), "'sha256sums' is content, so no SHA256SUMS"),
        ({"SHA256SUMS/x": b"1"}, ("manifest.json",), "'SHA256SUMS' is content"),
        ({"Sha256Sums": b"1", "manifest.json": b"[]"}, (), "'Sha256Sums' is content"),
    ],
)
def test_a_special_name_of_another_program_is_content_and_nothing_takes_its_place(
    tmp_path: Path, special: dict[str, bytes], generated: tuple[str, ...], note: str
) -> None:
    root = plant(tmp_path, {**WEIGHTS, **special})
    bundle = bundle_of(root)
    assert bundle.generated == generated
    assert bundle.notes[0].startswith(note)
    identity = identify(bundle, cache=None).identity
    found = {file.path for file in identity.files}
    assert found == {*WEIGHTS, *special, *generated}
    assert identity.dirhash is not None
    for path, data in special.items():
        assert hashlib.sha256(data).hexdigest() in {
            file.sha256 for file in identity.files if file.path == path
        }


def test_two_files_that_differ_in_case_are_packed_with_a_note(tmp_path: Path) -> None:
    root = plant(
        tmp_path, {"Model.bin": b"1", "model.bin": b"2", "d/e\u0301": b"3", "d/\u00e9": b"4", "x": b"5"}
    )
    bundle = bundle_of(root)
    assert bundle.listing.collisions == (("Model.bin", "model.bin"), ("d/e\u0301", "d/\u00e9"))
    assert bundle.notes[0].startswith("'Model.bin' and 'model.bin' are one name on file systems that")
    assert len(identify(bundle, cache=None).identity.files) == 7


def test_our_manifest_is_checked_beside_one_in_another_case(tmp_path: Path) -> None:
    files = [*WEIGHTS, "Manifest.json"]
    own = json.dumps({"model": "my-llm-7b", "files": files}).encode()
    bundle = bundle_of(plant(tmp_path, {**WEIGHTS, "Manifest.json": WEB_APP, "manifest.json": own}))
    assert bundle.generated == ("SHA256SUMS",)
    assert bundle.manifest == own


SUMS_FORMS = {
    "tagged": "sha256sum --tag {names}",
    "binary": "sha256sum --binary {names}",
    "crlf": "sha256sum {names} | sed 's/$/\\r/'",
    "dots": "sha256sum {dotted}",
    "upper case": "sha256sum {names} | sed 's/^[0-9a-f]*/\\U&/'",
    "commented": "echo '# by hand'; sha256sum {names}; echo",
    "signed": "echo '-----BEGIN PGP SIGNED MESSAGE-----'; echo; sha256sum {names}; echo '-----END-----'",
}


@pytest.mark.parametrize("form", SUMS_FORMS)
def test_own_sums_in_every_form_are_kept_byte_for_byte(tmp_path: Path, form: str) -> None:
    root = plant(tmp_path, WEIGHTS)
    names = " ".join(WEIGHTS)
    command = SUMS_FORMS[form].format(names=names, dotted=" ".join(f"./{name}" for name in WEIGHTS))
    subprocess.run(f"({command}) > SHA256SUMS", cwd=root, shell=True, check=True)
    before = (root / "SHA256SUMS").read_bytes()
    identity = identify(bundle_of(root), cache=None).identity
    assert (root / "SHA256SUMS").read_bytes() == before
    assert identity.dirhash == hashlib.sha256(before).hexdigest()
    (root / "config.json").write_bytes(b"changed")
    with pytest.raises(BundleError, match=r"wrong sum for 'config\.json'"):
        identify(bundle_of(root), cache=None)


def test_own_sums_may_name_a_file_in_another_unicode_form(tmp_path: Path) -> None:
    root = plant(tmp_path, {"caf\u00e9.bin": b"1"})
    digest = hashlib.sha256(b"1").hexdigest()
    (root / "SHA256SUMS").write_text(f"{digest}  cafe\u0301.bin\n")
    assert identify(bundle_of(root), cache=None).identity.dirhash is not None
    (root / "caf\u00e9.bin").write_bytes(b"2")
    with pytest.raises(BundleError, match="wrong sum for 'caf\u00e9"):
        identify(bundle_of(root), cache=None)
