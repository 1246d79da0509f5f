"""GGUF files, built from their parts."""

from __future__ import annotations

import struct

UINT8, UINT32, STRING, ARRAY, UINT64 = 0, 4, 8, 9, 10
F32, Q4_K = 0, 12


def gguf(
    pairs: tuple[bytes, ...] = (),
    tensors: tuple[bytes, ...] = (),
    data: bytes = b"",
    *,
    version: int = 3,
    order: str = "<",
    alignment: int = 32,
) -> bytes:
    count = "I" if version == 1 else "Q"
    head = b"GGUF" + struct.pack(f"{order}I{count}{count}", version, len(tensors), len(pairs))
    head += b"".join((*pairs, *tensors))
    return head + (bytes(-len(head) % alignment) + data if data else b"")


def text(value: bytes, order: str = "<", width: str = "Q") -> bytes:
    return struct.pack(order + width, len(value)) + value


def pair(key: bytes, kind: int, value: bytes, order: str = "<", width: str = "Q") -> bytes:
    return text(key, order, width) + struct.pack(order + "I", kind) + value


def tensor(name: bytes, shape: tuple[int, ...], kind: int, offset: int, order: str = "<") -> bytes:
    return text(name, order) + struct.pack(f"{order}I{len(shape)}QIQ", len(shape), *shape, kind, offset)


def array(kind: int, length: int, items: bytes) -> bytes:
    return struct.pack("<IQ", kind, length) + items


def llama(file_type: int, seed: int = 0) -> bytes:
    """Return a small model of the architecture llama with this `general.file_type`."""
    return gguf(
        (
            pair(b"general.architecture", STRING, text(b"llama")),
            pair(b"general.file_type", UINT32, struct.pack("<I", file_type)),
        ),
        (tensor(b"token_embd.weight", (256, 40), F32, 0),),
        bytes([seed]) * 4 * 256 * 40,
    )
