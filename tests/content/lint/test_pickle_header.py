"""Pickles are found by name and by content, and nothing else is taken for one."""

from __future__ import annotations

import io
import pickle
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.content.lint.pickle_header import pickle_flaws
from tests.content.lint.files import names, reader

VALUE = {"weights": [1.0, 2.0], "epoch": 3}
OBJECTS = b"\x93NUMPY\x01\x00v\x00{'descr': '|O', 'fortran_order': False, 'shape': (1,), }\n" + pickle.dumps(
    [1]
)


def flaws(path: str, data: bytes) -> list[str]:
    return names(pickle_flaws(path, data[:4096], reader(data), len(data)))


def zipped(*members: str, comment: bytes = b"") -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for member in members:
            archive.writestr(member, b"x" * 100)
        archive.comment = comment
    return made.getvalue()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("value", [VALUE, [1, 2], len, pytest])
def test_a_pickle_is_found_by_its_content(protocol: int, value: object) -> None:
    if value is pytest:  # an object of a class
        value = pickle.PickleBuffer if protocol < 2 else slice(1, 2)
    assert flaws("model.bin", pickle.dumps(value, protocol)) == ["pickle"]


@pytest.mark.parametrize("path", ["a.pkl", "b/c.PICKLE", "m.joblib", "m.dill", "m.pt", "m.pth"])
def test_a_pickle_is_found_by_its_name(path: str) -> None:
    assert flaws(path, b"anything") == ["pickle"]


@pytest.mark.parametrize(
    "data",
    [
        zipped("archive/data.pkl", "archive/data/0"),
        zipped("archive/data/0", "archive/constants.pkl"),
        zipped(*(f"m/data/{number}" for number in range(500)), "m/data.pkl"),
        zipped("m/data.pkl", comment=b"c" * 60_000),
        zipped("model.pickle"),
    ],
)
def test_a_pickle_in_a_zip_file_is_found(data: bytes) -> None:
    assert flaws("pytorch_model.bin", data) == ["pickle"]


@pytest.mark.parametrize("descr", [b"'|O'", b"[('a', '|O'), ('b', '<f4')]", b"'O8'"])
def test_a_numpy_array_of_objects_is_found(descr: bytes) -> None:
    data = OBJECTS.replace(b"'|O'", descr)
    assert flaws("a.npy", data) == ["pickle"]


@pytest.mark.parametrize(
    ("path", "data"),
    [
        ("a.bin", b"\x80\x02" + bytes(100)),
        ("a.bin", bytes(100)),
        ("a.txt", b"(see below).\n"),
        ("a.txt", b"config\nvalue."),
        ("a.md", b"current\nstate, in words\n"),
        ("a.npy", OBJECTS.replace(b"'|O'", b"'<f4'")),
        ("a.zip", zipped("a.txt", "b.json")),
        ("a.npz", zipped("arr_0.npy")),
        ("a.safetensors", (8).to_bytes(8, "little") + b"{}      "),
        ("a.bin", b""),
    ],
)
def test_other_files_are_no_pickles(path: str, data: bytes) -> None:
    assert flaws(path, data) == []


@pytest.mark.parametrize("path", ["m.pt", "pytorch_model.bin", "a.npz", "m.keras"])
@pytest.mark.parametrize("kept", [30, 300])
def test_a_zip_file_without_its_end_is_truncated(path: str, kept: int) -> None:
    assert "truncated-file" in flaws(path, zipped("m/data/0", "m/data/1", "m/data/2")[:kept])


@given(st.binary(max_size=300), st.binary(max_size=40))
def test_no_bytes_raise(data: bytes, tail: bytes) -> None:
    for whole in (
        data,
        b"PK\x03\x04" + data + b"PK\x05\x06" + tail,
        b"PK\x03\x04PK\x06\x07" + data[:16] + b"PK\x05\x06" + b"\xff" * 30,
    ):
        flaws("a.bin", whole)


@given(st.integers(0, 2000), st.binary(min_size=1, max_size=8))
def test_no_changed_byte_of_a_zip_file_raises(place: int, changed: bytes) -> None:
    data = zipped("m/data.pkl", "m/data/0")
    flaws("a.pt", data[:place] + changed + data[place + len(changed) :])
