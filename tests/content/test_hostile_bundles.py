"""Source directories that cannot be packed: each is an error with its path; nothing is read or written."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from reconciler.content.bundle import bare_bundle, make_bundle
from reconciler.content.identify import identify
from reconciler.content.scan import MAX_DEPTH, scan
from reconciler.errors import BundleError
from tests.support.plant import plant

ZEROS = "0" * 64
EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@dataclass(frozen=True)
class Hostile:
    name: str
    make: Callable[[Path], object]
    says: str  #: what the error must contain


def files(**contents: str) -> Callable[[Path], None]:
    """Files at the top; `SHA256SUMS` and `manifest` are written under their proper names."""

    def make(root: Path) -> None:
        for name, text in contents.items():
            (root / {"manifest": "manifest.json"}.get(name, name)).write_text(text)

    return make


def raw_name(name: bytes) -> Callable[[Path], None]:
    return lambda root: Path(os.fsdecode(os.fsencode(root) + b"/" + name)).write_bytes(b"x")


def both(first: str, second: str) -> Callable[[Path], None]:
    def make(root: Path) -> None:
        (root / first).write_text("1")
        (root / second).write_text("2")

    return make


def listening_socket(root: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        here = Path.cwd()
        os.chdir(root)  # the path of a socket is short
        try:
            server.bind("s")
        finally:
            os.chdir(here)


def deep(root: Path) -> None:
    (root / "/".join("d" * (MAX_DEPTH + 1))).mkdir(parents=True)


def sums(text: str) -> Callable[[Path], None]:
    return files(a="", SHA256SUMS=text)


def manifest(text: str) -> Callable[[Path], None]:
    return files(a="", manifest=text)


SCANNED = [
    Hostile("link-to-file", lambda root: (root / "l").symlink_to("a"), "'l' is a symbolic link"),
    Hostile("link-to-directory", lambda root: (root / "l").symlink_to("/etc"), "'l' is a symbolic link"),
    Hostile("link-to-nothing", lambda root: (root / "l").symlink_to("none"), "'l' is a symbolic link"),
    Hostile("link-to-itself", lambda root: (root / "l").symlink_to("l"), "'l' is a symbolic link"),
    Hostile(
        "link-below",
        lambda root: (plant(root, {"d": None}) / "d/l").symlink_to("/etc/passwd"),
        "'d/l' is a symb",
    ),
    Hostile("fifo", lambda root: os.mkfifo(root / "f"), "'f' is a FIFO"),
    Hostile("socket", listening_socket, "'s' is a socket"),
    Hostile("not-utf8", raw_name(b"a\xff"), "is not UTF-8"),
    Hostile("utf8-surrogate", raw_name(b"\xed\xa0\x80"), "is not UTF-8"),
    Hostile("utf8-overlong", raw_name(b"\xc0\xaf"), "is not UTF-8"),
    Hostile("line-break", raw_name(b"a\nb"), "control character"),
    Hostile("carriage-return", raw_name(b"a\r"), "control character"),
    Hostile("escape", raw_name(b"\x1b[31m"), "control character"),
    Hostile("delete", raw_name(b"a\x7f"), "control character"),
    Hostile("c1-control", raw_name("a\x85".encode()), "control character"),
    Hostile("too-deep", deep, f"more than {MAX_DEPTH} directories deep"),
]

BUNDLED = [
    Hostile("empty", lambda root: None, "no files to pack"),
    Hostile("only-hidden", lambda root: (root / ".gitattributes").write_text("x"), "1 hidden entries"),
    Hostile("only-directories", lambda root: plant(root, {"a/b": None}), "no files to pack"),
    Hostile("only-manifest", files(manifest='{"model": "m", "files": []}'), "no files to pack"),
    Hostile("sum-of-missing-file", sums(f"{EMPTY}  a\n{EMPTY}  b\n"), "SHA256SUMS:2: 'b' is missing"),
    Hostile("sum-of-hidden-file", sums(f"{EMPTY}  a\n{EMPTY}  .b\n"), "SHA256SUMS:2: '.b' is missing"),
    Hostile("sum-missing", sums(""), "has no sum for 'a'"),
    Hostile("sum-wrong", sums(f"{ZEROS}  a\n"), f"wrong sum for 'a': expected {ZEROS}, actual {EMPTY}"),
    Hostile("sum-of-itself", sums(f"{EMPTY}  a\n{EMPTY}  SHA256SUMS\n"), "SHA256SUMS:2: lists itself"),
    Hostile("sum-short", sums(f"{EMPTY[1:]}  a\n"), "SHA256SUMS:1: malformed line"),
    Hostile("sum-md5", sums("d41d8cd98f00b204e9800998ecf8427e  a\n"), "SHA256SUMS:1: malformed line"),
    Hostile("sum-outside", sums(f"{EMPTY}  ../a\n"), "is not a path inside the directory"),
    Hostile("sum-absolute", sums(f"{EMPTY}  /etc/passwd\n"), "is not a path inside the directory"),
    Hostile("sum-bad-escape", sums(f"\\{EMPTY}  a\\q\n"), "malformed line"),
    Hostile("sum-twice-different", sums(f"{EMPTY}  a\n{ZEROS}  ./a\n"), "SHA256SUMS:2: wrong sum for 'a'"),
    Hostile(
        "sum-malformed-among-others", sums(f"{EMPTY[1:]}  a\n{EMPTY}  manifest.json\n"), "no sum for 'a'"
    ),
    Hostile(
        "sum-utf-16",
        lambda root: plant(root, {"a": b"", "SHA256SUMS": "\ufeffx".encode("utf-16")}),
        "is UTF-16",
    ),
    Hostile(
        "sum-of-a-directory",
        lambda root: plant(root, {"a/b": b"", "SHA256SUMS": f"{EMPTY}  a/b/\n".encode()}),
        "not a path",
    ),
    Hostile("sum-upwards-and-back", sums(f"{EMPTY}  ../d/a\n"), "is not a path inside the directory"),
    Hostile(
        "foreign-manifest-without-a-sum",
        lambda root: plant(root, {"a": b"", "manifest.json": b"{}", "SHA256SUMS": f"{EMPTY}  a\n".encode()}),
        "has no sum for 'manifest.json'",
    ),
    Hostile("sum-binary", lambda root: (files(a="")(root), raw_name(b"SHA256SUMS")(root)), "malformed"),
    Hostile(
        "manifest-other-model", manifest('{"model": "x", "files": ["a"]}'), "has model 'x', expected 'm'"
    ),
    Hostile(
        "manifest-other-version",
        manifest('{"model": "m", "version": "2.0.0", "files": ["a"]}'),
        "has version '2.0.0', expected '1.0.0'",
    ),
    Hostile(
        "manifest-missing-file",
        manifest('{"model": "m", "files": ["a", "b"]}'),
        "lists 'b', which does not exist",
    ),
    Hostile("manifest-unlisted-file", manifest('{"model": "m", "files": []}'), "does not list 'a'"),
    Hostile("manifest-surrogate", manifest('{"model": "m", "files": ["\\ud800"]}'), "which does not exist"),
]


def snapshot(root: Path) -> dict[bytes, tuple[int, int]]:
    return {
        os.fsencode(path): (path.lstat().st_mtime_ns, path.lstat().st_size)
        for path in [root, *root.rglob("*")]
    }


@pytest.mark.parametrize("case", SCANNED, ids=lambda case: case.name)
def test_the_scan_refuses_what_cannot_be_packed(tmp_path: Path, case: Hostile) -> None:
    case.make(tmp_path)
    before = snapshot(tmp_path)
    with pytest.raises(BundleError) as caught:
        scan(tmp_path, include_hidden=False)
    assert case.says in str(caught.value)
    assert str(caught.value).isprintable()
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("case", BUNDLED, ids=lambda case: case.name)
def test_an_invalid_bundle_is_refused_with_the_reason(tmp_path: Path, case: Hostile) -> None:
    case.make(tmp_path)
    before = snapshot(tmp_path)
    with pytest.raises(BundleError) as caught:
        identify(make_bundle(scan(tmp_path, include_hidden=False), model="m", version="1.0.0"), cache=None)
    assert case.says in str(caught.value)
    assert str(caught.value).isprintable()
    assert snapshot(tmp_path) == before


def test_a_link_as_the_root_is_refused_with_advice(tmp_path: Path) -> None:
    plant(tmp_path / "1.2.0", {"a": b""})
    (tmp_path / "current").symlink_to("1.2.0")
    for pack in (lambda path: scan(path, include_hidden=False), bare_bundle):
        with pytest.raises(BundleError, match="is a symbolic link") as caught:
            pack(tmp_path / "current")
        assert caught.value.hint


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a device")
def test_a_device_is_refused(tmp_path: Path) -> None:
    try:
        os.mknod(tmp_path / "null", 0o20666, os.makedev(1, 3))
    except OSError:
        pytest.skip("this machine allows no devices")
    with pytest.raises(BundleError, match="'null' is a character device"):
        scan(tmp_path, include_hidden=False)
