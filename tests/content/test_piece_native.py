"""The compiled engine gives the roots of the standard library, with every kernel of this processor."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.content.piece_cid import capacity
from reconciler.content.piece_hash import make_engine
from reconciler.content.piece_tree import STRETCH, STRETCH_HEIGHT, PieceEngine, StdlibEngine, zero_node
from tests.support.native_module import build
from tests.support.pieces import piece_of


@pytest.fixture(scope="module")
def native(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    return build(tmp_path_factory.mktemp("native"))


@pytest.fixture(autouse=True)
def loaded(native: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "reconciler_native", native)
    monkeypatch.delitem(sys.modules, "reconciler.content.piece_native", raising=False)


def engine(kernel: str) -> PieceEngine:
    from reconciler.content.piece_native import NativeEngine

    return NativeEngine(kernel)


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_every_kernel_agrees_with_the_standard_library(native: ModuleType, data: st.DataObject) -> None:
    height = data.draw(st.integers(2, 9))
    size = data.draw(st.integers(1, capacity(height)) | st.just(capacity(height)))
    some = random.Random(size).randbytes(size)
    expected = StdlibEngine().root(some, height)
    for kernel in native.kernels():
        assert engine(kernel).root(some, height) == expected


def test_every_kernel_hashes_a_whole_stretch(native: ModuleType) -> None:
    """Also of zeros, and of bytes that end where the buffer does."""
    some = bytearray(random.Random(1).randbytes(STRETCH))
    expected = StdlibEngine().root(some, STRETCH_HEIGHT)
    for kernel in native.kernels():
        assert engine(kernel).root(some, STRETCH_HEIGHT) == expected
        assert engine(kernel).root(bytes(1), STRETCH_HEIGHT) == zero_node(STRETCH_HEIGHT)


def test_pieces_are_the_same_with_it(native: ModuleType) -> None:
    data = random.Random(2).randbytes(3 * STRETCH + 77)
    native_engine: Callable[[], PieceEngine] = lambda: engine(native.kernels()[0])  # noqa: E731
    assert piece_of([data], native_engine) == piece_of([data], StdlibEngine)


def test_it_is_used_where_the_processor_has_vectors(
    native: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise stringzilla is as fast or faster, and it is used only without that."""
    fastest = native.kernels()[0]
    if fastest in ("avx512", "sha"):
        assert make_engine().name == f"native {fastest}"
    monkeypatch.setattr(native, "kernels", lambda: ["portable"])
    assert make_engine().name == "stringzilla"
    monkeypatch.setitem(sys.modules, "reconciler.content.piece_lanes", None)
    assert make_engine().name == "native portable"


@pytest.mark.parametrize(
    ("data", "height", "kernel", "message"),
    [
        (bytes(capacity(6)), 6, "none", "no kernel"),
        (bytes(capacity(5)), 5, "portable", "height 5"),
        (bytes(capacity(6)), 31, "portable", "height 31"),
        (bytes(capacity(6) - 1), 6, "portable", "bytes for a tree"),
        (b"", 6, "portable", "0 bytes"),
    ],
)
def test_wrong_arguments_are_errors(
    native: ModuleType, data: bytes, height: int, kernel: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        native.root(data, height, kernel)


def test_data_that_do_not_fit_are_an_error(native: ModuleType) -> None:
    with pytest.raises(ValueError, match="do not fit"):
        engine("portable").root(bytes(capacity(6) + 1), 6)
