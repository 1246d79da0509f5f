"""sources.yaml defines source names, two names need no definition, and the index uses only known names."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.errors import InvalidIndexError, Where
from reconciler.index.load import load_index
from reconciler.index.sources_file import check_sources, load_sources, source_kinds
from reconciler.index.version_source import parse_source

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TEXT = """\
sources:
  mirror: {kind: huggingface, endpoint: "https://hub.example", token_env: HUB_TOKEN}
  weights:
    kind: object-store
    url: s3://acme-weights/released
    endpoint: "http://127.0.0.1:9000"
    region: eu-central-1
    key_id_env: AWS_ACCESS_KEY_ID
    secret_env: AWS_SECRET_ACCESS_KEY
    session_token_env: AWS_SESSION_TOKEN
  repo: {kind: lfs, url: "https://lfs.example/acme/weights", token_env: LFS_TOKEN}
  files: {kind: http, url: "https://files.example/models"}
  share: {kind: directory, path: /srv/weights}
"""


def test_each_kind_has_its_options_and_built_in_names_follow(tmp_path: Path) -> None:
    path = tmp_path / "sources.yaml"
    path.write_text(TEXT)
    specs = {spec.name: spec for spec in load_sources(path, name="s.yaml")}
    assert {spec.kind for spec in specs.values()} == set(source_kinds())
    assert list(specs) == ["mirror", "weights", "repo", "files", "share", "hf", "lfs"]
    assert specs["mirror"].options == {"endpoint": "https://hub.example", "token_env": "HUB_TOKEN"}
    assert specs["weights"].options["url"] == "s3://acme-weights/released"
    assert specs["share"].options == {"path": "/srv/weights"}
    assert specs["repo"].where == Where("s.yaml", 11)
    assert (specs["hf"].kind, specs["hf"].options) == ("huggingface", {})


def test_without_the_file_only_built_in_names_are_known(tmp_path: Path) -> None:
    for path in (None, tmp_path / "missing.yaml"):
        assert [spec.name for spec in load_sources(path)] == ["hf", "lfs"]


def test_a_built_in_name_may_get_another_endpoint(tmp_path: Path) -> None:
    path = tmp_path / "sources.yaml"
    path.write_text('sources: {hf: {kind: huggingface, endpoint: "https://hub.example"}}\n')
    assert [(spec.name, dict(spec.options)) for spec in load_sources(path)] == [
        ("hf", {"endpoint": "https://hub.example"}),
        ("lfs", {}),
    ]


def test_a_forged_stamp_lets_no_bad_definition_through(tmp_path: Path) -> None:
    path, stamps = tmp_path / "sources.yaml", tmp_path / "stamps"
    path.write_text(TEXT)
    load_sources(path, stamp_directory=stamps)
    assert (stamps / "sources.valid").exists()
    import hashlib

    from reconciler.index import schemas

    for text, message in (
        ("sources: {w: {kind: ftp}}", "unknown kind"),
        ('sources: {w: {kind: object-store, url: "file:///etc", region: eu}}', "no address of a bucket"),
        ('sources: {w: {kind: object-store, url: "s3://u:p@b/x", region: eu}}', "user name"),
        ('sources: {w: {kind: http, url: "https://u:p@h.example"}}', "user name"),
        ("sources: {}", "no sources"),
    ):
        path.write_text(text)
        key = schemas.stamp_key("sources", hashlib.sha256(text.encode()).hexdigest())
        schemas.write_stamp(stamps, "sources", key)
        with pytest.raises(InvalidIndexError, match=message):
            load_sources(path, stamp_directory=stamps)


@pytest.mark.parametrize(
    ("source", "message", "hint"),
    [
        ("wieghts:llm/1.0.0", "m@1.0.0 names the source 'wieghts'", "did you mean 'weights'?"),
        ("zzz:x", "does not define", "known: files, hf, lfs, mirror, repo, share, weights"),
        (
            "mirror:acme/x@main",
            "names the branch or tag 'main'",
            "`reconcile add MODEL VERSION mirror:acme/x@main`",
        ),
        ("mirror:acme/x", "names no commit", "mirror:acme/x@main"),
        (f"mirror:a/b/c@{COMMIT}", "not a repository", "mirror:org/name@COMMIT"),
    ],
)
def test_an_undefined_name_or_a_movable_revision_is_an_error_with_its_line(
    tmp_path: Path, source: str, message: str, hint: str
) -> None:
    sources, index = tmp_path / "sources.yaml", tmp_path / "index.yaml"
    sources.write_text(TEXT)
    index.write_text(
        f'schema: 1\nid: a\nmodels:\n  m:\n    versions:\n      "1.0.0":\n        source: "{source}"\n'
    )
    with pytest.raises(InvalidIndexError) as caught:
        check_sources(load_index(index, name="i.yaml"), load_sources(sources))
    assert caught.value.where == Where("i.yaml", 7)
    assert message in caught.value.message
    assert hint in (caught.value.hint or "")


@pytest.mark.parametrize(
    "source",
    [
        f"hf:acme/My-LLM@{COMMIT}",
        f"hf:gpt2@{COMMIT}",
        f"hf:datasets/acme/words@{COMMIT}",
        f"mirror:acme/x@{COMMIT}",
        "weights:llm/1.0.0/",
        "lfs:weights/llm",
        f"repo:weights@{COMMIT}",
        "files:llm/1.0.0",
        "share:llm 7b/1.0.0",
    ],
)
def test_a_source_with_a_fixed_content_is_accepted(tmp_path: Path, source: str) -> None:
    sources, file = tmp_path / "sources.yaml", tmp_path / "index.yaml"
    sources.write_text(TEXT)
    file.write_text(f'schema: 1\nid: a\nmodels: {{m: {{versions: {{"1.0.0": {{source: "{source}"}}}}}}}}\n')
    index = load_index(file)
    check_sources(index, load_sources(sources))
    (version,) = index.versions()
    assert (str(version.source), version.path, version.origin) == (source, None, source)
    assert version.source == parse_source(source)
