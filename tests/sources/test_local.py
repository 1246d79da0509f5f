"""Directories and CARs as sources."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path
from typing import ClassVar

import pytest

from reconciler.content import car
from reconciler.content.bundle import bare_bundle
from reconciler.content.identify import identify
from reconciler.errors import DataError, SourceChangedError, UsageError
from reconciler.sources.interface import SourceDefinition, SourceKind
from reconciler.sources.open import open_source
from tests.conformance.sources import FILES, SourceSuite

DIRECTORY = SourceDefinition("local", SourceKind.DIRECTORY)
CAR = SourceDefinition("packed", SourceKind.CAR)


class DirectorySubject:
    def __init__(self, root: Path) -> None:
        self.root = root
        for path, data in FILES.items():
            self.put(path, data)

    def open(self):
        return open_source(DIRECTORY, "weights", root=self.root, environ={})

    def open_missing(self):
        return open_source(DIRECTORY, "absent", root=self.root, environ={})

    def put(self, path: str, data: bytes) -> None:
        file = self.root / "weights" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)

    def make_unreachable(self) -> None:
        raise NotImplementedError


class CarSubject(DirectorySubject):
    definition = CAR

    def open(self):
        with closing(identify(bare_bundle(self.root / "weights", include_hidden=True), cache=None)) as dag:
            (self.root / "weights.car").write_bytes(b"".join(car.stream(dag)))
        return open_source(self.definition, "weights.car", root=self.root, environ={})

    def open_missing(self):
        return open_source(CAR, "absent.car", root=self.root, environ={})


class TestDirectory(SourceSuite):
    immutable: ClassVar = False
    states_digests: ClassVar = False
    remote: ClassVar = False

    @pytest.fixture
    def subject(self, tmp_path):
        return DirectorySubject(tmp_path)

    def test_a_file_that_changes_after_the_listing_is_found(self, subject, source):
        file = self.file(source, "config.json")
        subject.put("config.json", b'{"hidden_size": 9}\n')
        with pytest.raises(SourceChangedError, match=r"'config.json' changed"):
            self.read(source, file)

    def test_a_directory_outside_of_the_root_is_refused(self, subject, tmp_path):
        (tmp_path / "link").symlink_to(tmp_path.parent)
        for location in ("..", "../elsewhere", "/etc", "link"):
            with pytest.raises(UsageError, match="outside"):
                open_source(DIRECTORY, location, root=tmp_path, environ={})


class TestCar(SourceSuite):
    states_digests: ClassVar = False
    remote: ClassVar = False

    @pytest.fixture
    def subject(self, tmp_path):
        return CarSubject(tmp_path)

    def test_a_directory_source_may_name_a_car(self, subject):
        subject.definition = DIRECTORY
        with closing(subject.open()) as source:
            assert source.list().revision.startswith("bafy")

    def test_a_damaged_car_is_refused(self, subject, tmp_path):
        subject.open().close()
        with (tmp_path / "weights.car").open("r+b") as file:
            file.seek(1 << 20)
            file.write(os.urandom(8))
        with (
            closing(open_source(CAR, "weights.car", root=tmp_path, environ={})) as source,
            pytest.raises(DataError),
        ):
            source.list()

    def test_a_block_that_changes_after_the_listing_is_found(self, source, tmp_path):
        file = self.file(source, "model.safetensors")
        with (tmp_path / "weights.car").open("r+b") as damaged:
            damaged.write(bytes(3 << 20))
        with pytest.raises(SourceChangedError):
            self.read(source, file)
