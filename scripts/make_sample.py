"""Make the sample models under weights/; the bytes are the same on every machine.

    python scripts/make_sample.py            write weights/tiny-lm/
    python scripts/make_sample.py --check    exit 1 if the files differ

Each version is a real model in the usual layout: GPT-2's tensors in half precision (safetensors), its
configuration, and a word-level tokenizer. It is untrained: its weights are drawn from SHA-256 in counter mode
with integer arithmetic up to the last rounding, so they do not depend on libm or Python's random module.
Source of the container: the safetensors format (8-byte little-endian header length, JSON header, tensors).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import struct
import sys
from collections.abc import Iterator
from itertools import count, product
from math import prod
from pathlib import Path

WEIGHTS = Path(__file__).resolve().parent.parent / "weights" / "tiny-lm"
VERSIONS = {"1.0.0": "tiny-lm 1.0.0", "1.1.0": "tiny-lm 1.1.0"}  #: version: seed

VOCABULARY, POSITIONS, WIDTH, LAYERS, HEADS = 256, 128, 64, 2, 4
SPECIAL = ["<|endoftext|>", "<|pad|>", "<|unk|>"]
DEVIATION = 0.02  #: GPT-2's initializer_range


def tensors() -> Iterator[tuple[str, tuple[int, ...]]]:
    """Return the shape of every parameter by name; the output head is tied to `wte`."""
    yield "transformer.wte.weight", (VOCABULARY, WIDTH)
    yield "transformer.wpe.weight", (POSITIONS, WIDTH)
    for layer in range(LAYERS):
        block = f"transformer.h.{layer}"
        for part, rows, columns in (
            ("attn.c_attn", WIDTH, 3 * WIDTH),
            ("attn.c_proj", WIDTH, WIDTH),
            ("mlp.c_fc", WIDTH, 4 * WIDTH),
            ("mlp.c_proj", 4 * WIDTH, WIDTH),
        ):
            yield f"{block}.{part}.weight", (rows, columns)
            yield f"{block}.{part}.bias", (columns,)
        for norm in ("ln_1", "ln_2"):
            yield f"{block}.{norm}.weight", (WIDTH,)
            yield f"{block}.{norm}.bias", (WIDTH,)
    yield "transformer.ln_f.weight", (WIDTH,)
    yield "transformer.ln_f.bias", (WIDTH,)


def uniform16(seed: str) -> Iterator[int]:
    """Yield integers from 0 to 65535, from SHA-256 over the seed and a counter."""
    for block in count():
        yield from struct.unpack("<16H", hashlib.sha256(f"{seed}/{block}".encode()).digest())


def values(seed: str, name: str, size: int) -> list[float]:
    """Return the initial values of one tensor as in GPT-2: near-normal matrices, unit gains, zero biases."""
    if name.endswith(".bias"):
        return [0.0] * size
    if ".ln_" in name:
        return [1.0] * size
    source = uniform16(f"{seed}/{name}")
    # The sum of four uniform numbers is nearly normal, with a standard deviation of 65536 / sqrt(3).
    scale = DEVIATION * 1.7320508075688772 / 65536
    return [
        (next(source) + next(source) + next(source) + next(source) - 2 * 65535) * scale for _ in range(size)
    ]


def safetensors(seed: str) -> bytes:
    """Return the bytes of the weights file."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    body = bytearray()
    for name, shape in sorted(tensors()):
        data = struct.pack(f"<{prod(shape)}e", *values(seed, name, prod(shape)))
        header[name] = {
            "dtype": "F16",
            "shape": list(shape),
            "data_offsets": [len(body), len(body) + len(data)],
        }
        body += data
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # readers map the file, so tensors begin at a multiple of eight
    return struct.pack("<Q", len(text)) + text + bytes(body)


def words() -> list[str]:
    """Return the vocabulary: special tokens, then two-syllable words."""
    syllables = [c + v for c, v in product("bdklmnprst", "aeio")]
    invented = (first + second for first, second in product(syllables, syllables))
    return SPECIAL + [next(invented) for _ in range(VOCABULARY - len(SPECIAL))]


def tokenizer() -> dict[str, object]:
    """Return a word-level tokenizer in the JSON format of the `tokenizers` library."""
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": number,
                "content": token,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": True,
            }
            for number, token in enumerate(SPECIAL)
        ],
        "normalizer": {"type": "Lowercase"},
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": None,
        "decoder": None,
        "model": {
            "type": "WordLevel",
            "vocab": {word: number for number, word in enumerate(words())},
            "unk_token": "<|unk|>",
        },
    }


CONFIG = {
    "architectures": ["GPT2LMHeadModel"],
    "bos_token_id": 0,
    "eos_token_id": 0,
    "initializer_range": DEVIATION,
    "model_type": "gpt2",
    "n_embd": WIDTH,
    "n_head": HEADS,
    "n_layer": LAYERS,
    "n_positions": POSITIONS,
    "pad_token_id": 1,
    "tie_word_embeddings": True,
    "torch_dtype": "float16",
    "vocab_size": VOCABULARY,
}

TOKENIZER_CONFIG = {
    "bos_token": "<|endoftext|>",
    "eos_token": "<|endoftext|>",
    "model_max_length": POSITIONS,
    "pad_token": "<|pad|>",
    "tokenizer_class": "PreTrainedTokenizerFast",
    "unk_token": "<|unk|>",
}


def bundle(seed: str) -> dict[str, bytes]:
    """Return the files of one version: content by name."""
    documents = {
        "config.json": CONFIG,
        "tokenizer.json": tokenizer(),
        "tokenizer_config.json": TOKENIZER_CONFIG,
    }
    files = {name: (json.dumps(value, indent=2) + "\n").encode() for name, value in documents.items()}
    return files | {"model.safetensors": safetensors(seed)}


def main() -> int:
    """Write the sample, or compare it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="compare with what is there, write nothing")
    check = parser.parse_args().check
    wanted = {
        WEIGHTS / version / name: content
        for version, seed in VERSIONS.items()
        for name, content in bundle(seed).items()
    }
    if not check:
        for file, content in wanted.items():
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        return 0
    there = {file for file in WEIGHTS.rglob("*") if file.is_file()}
    wrong = sorted(
        [f"{file}: not part of the sample" for file in there - wanted.keys()]
        + [f"{file}: missing" for file in wanted.keys() - there]
        + [f"{file}: differs" for file in there & wanted.keys() if file.read_bytes() != wanted[file]]
    )
    for line in wrong:
        print(f"error: {line}", file=sys.stderr)
    if wrong:
        print("hint: python scripts/make_sample.py writes it anew", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
