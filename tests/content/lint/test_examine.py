"""The examination of a whole release: sets of files, leftovers, repositories, credentials, licenses."""

from __future__ import annotations

import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.content.lint.examine import examine
from reconciler.content.lint.finding import ACCEPTABLE, FindingCode, Severity
from tests.content.lint.files import codes, findings, subject
from tests.support.safetensors import safetensors

WEIGHTS = safetensors(bytes(16))
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"4d" * 32 + b"\nsize 4818264064\n"
KEY = b"-----BEGIN %s-----\n" + b"MIIEvQIBADANBgkqhkiG9w0BAQEFAASC\n" * 4 + b"-----END %s-----\n"
PRIVATE = KEY % (b"PRIVATE KEY", b"PRIVATE KEY")
CERTIFICATE = KEY % (b"CERTIFICATE", b"CERTIFICATE")


def weight_map(*shards: str) -> bytes:
    return json.dumps({"weight_map": {f"t{number}": shard for number, shard in enumerate(shards)}}).encode()


def test_a_complete_release_has_no_finding() -> None:
    shards = [f"model-0000{number}-of-00003.safetensors" for number in (1, 2, 3)]
    files = {**dict.fromkeys(shards, WEIGHTS), "model.safetensors.index.json": weight_map(*shards)}
    assert codes({**files, "config.json": b"{}", "onnx/model.onnx": b"onnx"}) == []


# --- pointers


@pytest.mark.parametrize(
    "data",
    [
        LFS,
        LFS.replace(b"\n", b"\r\n"),
        LFS.replace(b"oid", b"ext-0-foo sha256:00\noid"),
        LFS.replace(b"git-lfs.github.com", b"hawser.github.com"),
        LFS[:44],
        b"# xet version 0\nfilesize = 12\nhash = 'ab'\n",
        b"/annex/objects/SHA256E-s4818264064--4d7a.safetensors\n",
        b"../.git/annex/objects/9J/2p/MD5E-s3--0f/MD5E-s3--0f.bin",
        b"../../blobs/" + b"ab" * 32,
    ],
)
@pytest.mark.parametrize("path", ["model.safetensors", "sub/model.bin", "model.safetensors.index.json"])
def test_a_pointer_in_place_of_a_file_is_refused(path: str, data: bytes) -> None:
    assert codes({path: data}) == [("pointer-file", path)]


@pytest.mark.parametrize(
    "data",
    [
        b"See version https://git-lfs.github.com/spec/v1\n",
        LFS + b"x" * 1024,
        b"version 1\n",
        b"blobs/ab",
        b"annexes",
    ],
)
def test_text_about_pointers_is_no_pointer(data: bytes) -> None:
    assert codes({"README.md": data}) == []


# --- sets of files


@pytest.mark.parametrize(
    ("index", "shard"),
    [
        ("model.safetensors.index.json", "model-00001-of-00002.safetensors"),
        ("pytorch_model.bin.index.json", "pytorch_model-00001-of-00002.bin"),
        ("tf_model.h5.index.json", "tf_model-00001-of-00002.h5"),
        ("flax_model.msgpack.index.json", "flax_model-00001-of-00002.msgpack"),
        ("diffusion_pytorch_model.fp16.safetensors.index.json", "diffusion.fp16-00001-of-00002.safetensors"),
        ("unet/model.safetensors.index.json", "unet/model-00001-of-00002.safetensors"),
        ("odd.index.json", "first.bin"),
    ],
)
def test_a_shard_that_a_weight_map_names_and_that_is_missing_is_refused(index: str, shard: str) -> None:
    other = shard.replace("00001", "00002").replace("first", "second")
    names = [path.rpartition("/")[2] for path in (shard, other)]
    (found,) = (f for f in findings({index: weight_map(*names), shard: WEIGHTS}) if f.code == "missing-file")
    assert (found.path, found.override) == (index, "accept: [missing-file]")
    assert other in found.message
    assert "2 files, of which 1 is missing" in found.message


@pytest.mark.parametrize("name", ["../outside.bin", "/etc/passwd", "sub/../../x", ""])
def test_a_weight_map_cannot_name_files_outside_the_release(name: str) -> None:
    assert codes({"model.index.json": weight_map(name)}) == [("missing-file", "model.index.json")]


@pytest.mark.parametrize("name", ["./a.bin", "sub/../a.bin", "a.bin"])
def test_a_weight_map_may_name_a_file_in_any_spelling(name: str) -> None:
    assert codes({"model.index.json": weight_map(name), "a.bin": b"data"}) == []


@pytest.mark.parametrize(
    "text", [b"{", b"\xff", b'{"weight_map": []}', b'{"weight_map": {"a": 1}}', b'{"a":1,"a":2}']
)
def test_a_weight_map_that_does_not_parse_is_a_warning(text: bytes) -> None:
    assert codes({"model.index.json": text}) == [("invalid-header", "model.index.json")]


@pytest.mark.parametrize("text", [b"[]", b"{}", b'{"images": []}', b"null"])
def test_another_index_is_no_weight_map(text: bytes) -> None:
    assert codes({"search.index.json": text}) == []


@pytest.mark.parametrize(
    ("there", "missing", "count"),
    [
        (["m-00001-of-00003.gguf", "m-00003-of-00003.gguf"], "m-00002-of-00003.gguf", 1),
        (["m-00002-of-00002.gguf"], "m-00001-of-00002.gguf", 1),
        (["a/m.fp16-00001-of-00002.safetensors"], "a/m.fp16-00002-of-00002.safetensors", 1),
        (["train-00000-of-00002.parquet"], "train-00001-of-00002.parquet", 1),
        (["train-00001-of-00002.arrow"], "train-00000-of-00002.arrow", 1),
        (["v/variables.data-00001-of-00002"], "v/variables.data-00000-of-00002", 1),
        (["m-00000-of-00002.bin"], "m-00001-of-00002.bin", 1),
        (["m-001-of-003.bin", "m-002-of-003.bin"], "m-003-of-003.bin", 1),
        (["m-00001-of-99999.bin"], "m-00002-of-99999.bin", 99998),
        (["m-0000000001-of-9999999999.bin"], "m-0000000002-of-9999999999.bin", 9999999998),
    ],
)
def test_a_number_that_is_missing_in_a_set_is_refused(there: list[str], missing: str, count: int) -> None:
    (found,) = (f for f in findings(dict.fromkeys(there, b"GGML")) if f.code == "missing-file")
    assert missing in found.message
    assert f"of which {count:,} " in found.message


@pytest.mark.parametrize(
    "files",
    [
        ["m-00001-of-00001.gguf"],
        ["data-00000-of-00001.arrow", "data-00000-of-00002.arrow", "data-00001-of-00002.arrow"],
        ["variables.data-00000-of-00001", "variables.index"],
        ["m-00000-of-00003.bin", "m-00001-of-00003.bin", "m-00002-of-00003.bin"],
        ["page-1-of-3.png", "step-01-of-12.txt"],
        ["m-00001-of-0003.bin"],
    ],
)
def test_a_complete_set_is_no_finding(files: list[str]) -> None:
    assert "missing-file" not in [code for code, _ in codes(dict.fromkeys(files, b"data"))]


def test_a_missing_shard_is_reported_once() -> None:
    shards = ("m-00001-of-00002.safetensors", "m-00002-of-00002.safetensors")
    files = {"m.safetensors.index.json": weight_map(*shards), shards[0]: WEIGHTS}
    assert codes(files) == [("missing-file", "m.safetensors.index.json")]


@given(st.integers(1, 30), st.data())
def test_the_number_of_missing_shards_is_exact(total: int, data: st.DataObject) -> None:
    kept = data.draw(st.sets(st.integers(1, total), min_size=1))
    files = {f"m-{number:05}-of-{total:05}.gguf": b"" for number in kept}
    found = [f for f in findings(files) if f.code == "missing-file"]
    assert len(found) == (len(kept) < total)
    if found:
        assert f"set of {total} files, of which {total - len(kept)} " in found[0].message


@pytest.mark.parametrize("path", ["model.safetensors.dvc", "data.dvc", "sub/x.bin.dvc"])
def test_a_dvc_file_without_its_output_is_refused(path: str) -> None:
    dvc = b"outs:\n- md5: d41d8cd98f00b204e9800998ecf8427e\n"
    assert codes({path: dvc}) == [("missing-file", path)]
    assert codes({path: dvc, path.removesuffix(".dvc"): WEIGHTS}) == []
    assert codes({path: dvc, path.removesuffix(".dvc") + "/part": WEIGHTS}) == []


# --- leftovers


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("model.safetensors.incomplete", None),
        ("a/model.bin.part", None),
        ("MODEL.BIN.PART", None),
        ("model.gguf.crdownload", None),
        ("model.gguf.aria2", None),
        ("model.gguf.download/data", "model.gguf.download"),
        ("model.bin.1f2e.partial", None),
        ("model.bin.!qB", None),
        ("sha256-" + "ab" * 32 + "-partial-3", None),
        (".cache/huggingface/download/x.lock", ".cache/huggingface"),
        (".cache/huggingface/download/x.json.metadata", ".cache/huggingface"),
        ("._____temp/model.bin", "._____temp"),
    ],
)
def test_a_leftover_of_a_download_is_refused(path: str, place: str | None) -> None:
    assert codes({path: b"data", "model.txt": b"x"}) == [("partial-download", place or path)]


@pytest.mark.parametrize(
    "path", ["part", ".part", "partial.bin", "model.part1.rar", "x.parts", "cache/huggingface/a"]
)
def test_names_that_resemble_leftovers_are_no_finding(path: str) -> None:
    assert codes({path: b"data"}) == []


# --- repositories


@pytest.mark.parametrize(
    ("files", "place"),
    [
        ({".git/config": b"", ".git/HEAD": b""}, ".git"),
        ({".git": b"gitdir: ../x\n"}, ".git"),
        ({"sub/.git": b"gitdir: ../x\n"}, "sub/.git"),
        ({"sub/.GIT/config": b""}, "sub/.GIT"),
        ({".hg/hgrc": b""}, ".hg"),
        ({".svn/wc.db": b""}, ".svn"),
        ({".jj/repo/x": b""}, ".jj"),
        ({"m.git/HEAD": b"", "m.git/objects/x": b"", "m.git/refs/heads/y": b""}, "m.git"),
        ({"HEAD": b"", "objects/x": b"", "refs/heads/y": b""}, ""),
    ],
)
def test_a_repository_is_never_published(files: dict[str, bytes], place: str) -> None:
    (found,) = findings(files)
    assert (found.code, found.path, found.override) == ("version-control", place, "")
    assert found.code.severity is Severity.NEVER


def test_an_empty_repository_directory_is_never_published() -> None:
    assert ("version-control", ".git") in codes({"a": b"x"}, ".git")


@pytest.mark.parametrize(
    "path", [".gitattributes", ".gitignore", "git/config", "x.git", "HEAD", ".github/a.yml"]
)
def test_names_that_resemble_repositories_are_no_finding(path: str) -> None:
    assert codes({path: b"* text=auto\n"}) == []


# --- credentials


@pytest.mark.parametrize(
    ("path", "data"),
    [
        (".netrc", b"machine huggingface.co login me password hf_x\n"),
        ("home/_netrc", b"machine x\n  login me\n  password y\n"),
        (".git-credentials", b"https://me:ghp_x@github.com\n"),
        (".env", b"# comment\nexport HF_TOKEN=hf_abcdefgh\n"),
        (".env.production", b'DB_PASSWORD="s3cr3t"\n'),
        ("service.env", b"AWS_SECRET_ACCESS_KEY=abcd1234\n"),
        (".npmrc", b"//npm.example/:_authToken=npm_x\n"),
        (".pypirc", b"[pypi]\nusername = __token__\npassword = pypi-x\n"),
        (".aws/credentials", b"[default]\naws_secret_access_key = abc\n"),
        (".docker/config.json", b'{"auths": {"x": {"auth": "bWU6eA=="}}}'),
        (".kube/config", b"users:\n- user:\n    token: abc\n"),
        (".cache/huggingface/token", b"hf_abc"),
        (".config/gh/hosts.yml", b"github.com:\n  oauth_token: gho_x\n"),
        ("kaggle.json", b'{"username": "me", "key": "' + b"0a" * 16 + b'"}'),
        ("sa.json", b'{"type": "service_account", "private_key": "-----BEGIN PRIVATE KEY-----\\n"}'),
        ("token", b"hf_abcdefghijklmnopqrstuvwxyz0123456789\n"),
        ("id_ed25519", KEY % (b"OPENSSH PRIVATE KEY", b"OPENSSH PRIVATE KEY")),
        ("keys/id_rsa", KEY % (b"RSA PRIVATE KEY", b"RSA PRIVATE KEY")),
    ],
)
def test_a_file_with_credentials_is_never_published(path: str, data: bytes) -> None:
    (found,) = (f for f in findings({path: data}) if f.code != "partial-download")
    assert (found.code, found.path) == ("credentials", path)
    assert found.code.severity is Severity.NEVER


@pytest.mark.parametrize(
    ("path", "data"),
    [
        ("key.pem", PRIVATE),
        ("server.crt", CERTIFICATE + PRIVATE),
        ("chain.pem", CERTIFICATE * 40 + KEY % (b"EC PRIVATE KEY", b"EC PRIVATE KEY")),
        ("key.txt", PRIVATE.replace(b"\n", b"\r\n")),
        ("weights.bin", PRIVATE),
        (
            "old.key",
            b"-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\n"
            + b"Qg" * 20,
        ),
        (
            "signing.asc",
            KEY.replace(b"\nMIIE", b"\n\nMIIE", 1) % (b"PGP PRIVATE KEY BLOCK", b"PGP PRIVATE KEY BLOCK"),
        ),
        ("k.ppk", b"PuTTY-User-Key-File-3: ssh-ed25519\n"),
        ("age.txt", b"# created: 2026-01-01\n# public key: age1x\nAGE-SECRET-KEY-1ABC\n"),
    ],
)
def test_a_private_key_is_refused_unless_it_is_accepted(path: str, data: bytes) -> None:
    (found,) = findings({path: data})
    assert (found.code, found.override) == ("private-key", "accept: [private-key]")


@pytest.mark.parametrize(
    ("path", "data"),
    [
        ("ca.pem", CERTIFICATE),
        ("public.pem", KEY % (b"PUBLIC KEY", b"PUBLIC KEY")),
        ("id_rsa.pub", b"ssh-rsa AAAAB3NzaC1yc2E= me@host\n"),
        (".env", b"OMP_NUM_THREADS=4\nHF_HOME=/data\n"),
        (".env", b"HF_TOKEN=\nAPI_KEY=$API_KEY\nPASSWORD=<yours>\nSECRET_KEY=your-key-here\n"),
        (".env.example", b"HF_TOKEN=hf_abcdefgh\n"),
        (".netrc", b""),
        (".npmrc", b"save-exact=true\n_authToken=${NPM_TOKEN}\n"),
        (".aws/config", b"[default]\nregion = eu-central-1\n"),
        (".docker/config.json", b'{"credsStore": "desktop"}'),
        (".git-credentials", b"\n"),
        ("docs.md", b"Keys begin with:\n-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG\n"),
        ("README.md", b"-----BEGIN PRIVATE KEY----- is the first line of a key\n"),
        ("dataset.jsonl", b'{"text": "-----BEGIN PRIVATE KEY-----\\nMIIEvQIBADANBg"}\n'),
        ("tokenizer.json", b'{"token": "hf_abcdefghijklmnopqrstuvwxyz0123456789"}'),
        ("token", b"<|endoftext|>"),
        ("environment.yml", b"password: none\n"),
        ("config.json", b'{"type": "model", "key": "value"}'),
    ],
)  # fmt: skip
def test_files_without_a_secret_are_no_finding(path: str, data: bytes) -> None:
    assert codes({path: data}) == []


# --- warnings


@pytest.mark.parametrize(
    ("directories", "found"),
    [
        (["adapters"], ["adapters"]),
        (["a", "a/b", "a/b/c"], ["a"]),
        (["x/empty", "y"], ["x/empty", "y"]),
        ([], []),
    ],
)
def test_a_directory_without_files_is_a_warning(directories: list[str], found: list[str]) -> None:
    assert codes({"x/file": b"data"}, *directories) == [("empty-directory", path) for path in found]


@pytest.mark.parametrize("path", ["model.safetensors", "a/model.gguf", "m.onnx", "pytorch_model.bin", "m.PT"])
def test_weights_of_zero_bytes_are_a_warning(path: str) -> None:
    assert codes({path: b"", "__init__.py": b""}) == [("empty-file", path)]


@pytest.mark.parametrize(
    "page", [b"<!DOCTYPE html><html>", b"\n<HTML>", b'<?xml version="1.0"?>\n<Error><Code>']
)
@pytest.mark.parametrize("path", ["model.safetensors", "m.gguf", "pytorch_model.bin", "a.onnx"])
def test_a_web_page_in_place_of_weights_is_a_warning(path: str, page: bytes) -> None:
    assert codes({path: page}) == [("invalid-header", path)]
    assert codes({"report.html": page}) == []


def test_headers_are_examined_by_content_too() -> None:
    gguf = b"GGUF" + struct.pack("<IQQ", 3, 0, 0)
    assert codes({"model": gguf, "model.gguf": gguf}) == []
    assert codes({"model": gguf[:-1]}) == [("truncated-file", "model")]
    assert codes({"model.safetensors": b"\x80\x02}q\0."}) == [
        ("invalid-header", "model.safetensors"),
        ("pickle", "model.safetensors"),
    ]


@pytest.mark.parametrize(
    ("files", "named"),
    [
        ({"LICENSE": b"MIT"}, True),
        ({"LICENCE.md": b"MIT"}, True),
        ({"COPYING": b"GPL"}, True),
        ({"MODEL_LICENSE.txt": b"x"}, True),
        ({"LICENSES/MIT.txt": b"MIT"}, True),
        ({"README.md": b"---\ntags: [x]\nlicense: mit\n---\n# M\n"}, True),
        ({"README.md": b"---\ntags: [x]\n---\nlicense: mit\n"}, False),
        ({"README.md": b"license: mit\n"}, False),
        ({"README.md": b"---\nlicense:\n---\n"}, False),
        ({"docs/LICENSE": b"MIT"}, False),
        ({"unlicensed.bin": b"x"}, False),
        ({"config.json": b"{}"}, False),
    ],
)
def test_a_release_that_names_no_license_is_a_warning(files: dict[str, bytes], named: bool) -> None:
    found = examine(subject(files), licensed=False)
    assert [str(f.code) for f in found] == ([] if named else ["no-license"])


# --- the whole


def test_findings_that_refuse_come_first() -> None:
    files = {"z.safetensors": LFS, "a.pkl": b"x", "m-00001-of-00002.gguf": b"", ".git": b"x"}
    found = findings(files, "empty")
    severities = [f.code.severity for f in found]
    assert severities == sorted(severities, key=list(Severity).index)
    assert {f.code.severity for f in found} == set(Severity)
    assert all(f.hint and f.message and f.path in f.message for f in found)


def test_only_what_the_severity_allows_can_be_accepted() -> None:
    assert {code for code in FindingCode if code.severity is Severity.BLOCKED} == set(ACCEPTABLE)


NAMES = st.sampled_from(
    ["model.safetensors", "a.gguf", "x.bin", "m.index.json", ".env", "k.pem", "id_rsa", ".git/config", "a.pt",
     "README.md",     "m-00001-of-00009.bin", "x.dvc", "n.npy", "config.json", "token", "a/b/c"]
)  # fmt: skip
STARTS = st.sampled_from(
    [b"", b"GGUF", b"PK\x03\x04", b"\x93NUMPY", b"\x80\x04", b"version https://git-lfs.github.com/spec/v1",
     b"-----BEGIN ",     b'{"weight_map": ', b"---\nlicense", b"outs:", b"\x08" + bytes(7) + b"{"]
)  # fmt: skip


@given(st.dictionaries(NAMES, st.tuples(STARTS, st.binary(max_size=100)).map(b"".join), max_size=6))
def test_no_files_raise_and_the_result_does_not_depend_on_their_order(files: dict[str, bytes]) -> None:
    found = findings(files)
    assert found == findings(dict(reversed(files.items())))
    assert all(f.path == "" or any(p == f.path or p.startswith(f.path + "/") for p in files) for f in found)
