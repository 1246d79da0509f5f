"""A bundle in a CAR has the same identity and the same checks as the directory."""

from __future__ import annotations

import pytest

from reconciler.content import car
from reconciler.content.bundle import bare_bundle, make_bundle
from reconciler.content.car_bundle import identify_car
from reconciler.content.identify import identify
from reconciler.content.manifest import ReleaseInfo
from reconciler.content.scan import scan
from reconciler.errors import BundleError, DataError
from reconciler.progress import QUIET

RELEASE = ReleaseInfo("m", "1.0.0", None, None)


@pytest.fixture
def directory(tmp_path):
    source = tmp_path / "source"
    (source / "deep").mkdir(parents=True)
    (source / "model.bin").write_bytes(bytes(range(256)) * 12_000)
    (source / "deep" / "config.json").write_text("{}")
    (source / "empty").touch()
    return source


def packed(dag, path):
    path.write_bytes(b"".join(car.stream(dag)))
    return path


def test_has_the_identity_of_the_directory_it_was_made_from(directory, tmp_path):
    dag = identify(make_bundle(scan(directory, include_hidden=False), model="m", version="1.0.0"), cache=None)
    bundle = identify_car(packed(dag, tmp_path / "b.car"), RELEASE, QUIET)
    assert bundle.identity == dag.identity
    assert [bundle.read(i) for i in range(len(bundle.layout))] == [
        dag.read(i) for i in range(len(dag.layout))
    ]
    bundle.close()


def test_without_sums_has_the_dirhash_they_would_give(directory, tmp_path):
    bare = identify(bare_bundle(directory), cache=None)
    identity = identify_car(packed(bare, tmp_path / "b.car"), RELEASE, QUIET).identity
    assert identity.root == bare.identity.root
    assert {file.path for file in identity.files} == {"model.bin", "deep/config.json", "empty"}
    assert identity.dirhash is not None


def test_wrong_sum_in_it_is_refused(directory, tmp_path):
    (directory / "SHA256SUMS").write_text(
        f"{'0' * 64}  model.bin\n{'0' * 64}  deep/config.json\n{'0' * 64}  empty\n"
    )
    bare = identify(bare_bundle(directory), cache=None)
    with pytest.raises(BundleError, match="wrong sum"):
        identify_car(packed(bare, tmp_path / "b.car"), RELEASE, QUIET)


def test_manifest_of_another_version_is_kept_and_noted(directory, tmp_path):
    dag = identify(make_bundle(scan(directory, include_hidden=False), model="x", version="2.0.0"), cache=None)
    found = identify_car(packed(dag, tmp_path / "b.car"), RELEASE, QUIET)
    found.close()
    assert found.identity == dag.identity
    assert found.notes == ("b.car contains the manifest.json of x@2.0.0, which is kept",)


def test_manifest_that_lists_other_files_is_refused(directory, tmp_path):
    (directory / "manifest.json").write_text('{"model": "m", "files": ["none"]}')
    path = packed(identify(bare_bundle(directory), cache=None), tmp_path / "b.car")
    with pytest.raises(BundleError, match="lists 'none', which does not exist"):
        identify_car(path, RELEASE, QUIET)


def test_manifest_of_another_program_is_content(directory, tmp_path):
    (directory / "manifest.json").write_text('{"name": "app"}')
    bare = identify(bare_bundle(directory), cache=None)
    found = identify_car(packed(bare, tmp_path / "b.car"), RELEASE, QUIET)
    found.close()
    assert found.identity.root == bare.identity.root


def test_cut_file_is_refused(directory, tmp_path):
    path = packed(identify(bare_bundle(directory), cache=None), tmp_path / "b.car")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError):
        identify_car(path, RELEASE, QUIET)
