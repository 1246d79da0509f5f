"""Make tests/content/released_roots.json: small directories, and the identity that a release gives each.

    python scripts/make_roots.py --reconcile COMMAND --release COMMIT    write what `COMMAND identify` gives

A published CID never changes, so the file is made once, with the first release that has published, and later
releases are compared with it. New cases may be added with the release that first accepts them.

A recipe is a mapping of paths to what they contain: text, `{"seed", "size"}` (SHAKE-256 of the seed),
`{"zeros"}` (so many zero bytes), `{"names", "text"}` (files with numbered names in that directory), or null
(an empty directory).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOTS = Path(__file__).resolve().parent.parent / "tests" / "content" / "released_roots.json"
FACTS = ("root", "dirhash", "size", "blocks", "block_bytes", "car_size", "generated")

MIB = 1 << 20
RELEASE = ("--model", "my-llm", "--version", "1.2.0")
FULL = (*RELEASE, "--format", "safetensors", "--created-at", "2026-05-07T00:00:00Z")

Recipe = Mapping[str, Any]


@dataclass(frozen=True)
class Case:
    """A directory to identify: its recipe, and the arguments of `identify` besides the directory."""

    name: str
    files: Recipe
    arguments: Sequence[str] = FULL


def seeded(seed: str, size: int) -> dict[str, object]:
    """Return the recipe of a file of `size` bytes that look random."""
    return {"seed": seed, "size": size}


def sums(files: Mapping[str, str], *, line: str = "{sum}  {path}\n", upper: bool = False) -> str:
    """Return a SHA256SUMS over files given as text."""
    digests = {path: hashlib.sha256(text.encode()).hexdigest() for path, text in files.items()}
    return "".join(
        line.format(sum=digest.upper() if upper else digest, path=path) for path, digest in digests.items()
    )


def cases() -> Iterator[Case]:
    """Yield every case; a name is unique."""
    yield from sizes()
    yield from trees()
    yield from special_files()
    yield from releases()


def sizes() -> Iterator[Case]:
    """Yield files around the borders of chunks, and of nodes with the most links."""
    for size in (0, 1, 255, 256, 65_536, MIB - 1, MIB, MIB + 1, 2 * MIB - 1, 2 * MIB, 2 * MIB + 1, 5 * MIB):
        yield Case(f"one file of {size} bytes", {"model.safetensors": seeded("weights", size)})
    yield Case("1,024 equal chunks", {"zeros": {"zeros": 1024 * MIB}}, ("--bare",))
    yield Case("1,025 equal chunks", {"zeros": {"zeros": 1025 * MIB}}, ("--bare",))
    yield Case("three equal chunks and a rest", {"zeros": {"zeros": 3 * MIB + 7}})
    yield Case("the same bytes twice", {"a": seeded("twin", MIB + 9), "b": seeded("twin", MIB + 9)})
    yield Case("only empty files", {"a": "", "b": "", "c/d": ""})
    yield Case("bare: only empty files", {"a": "", "b": "", "c/d": ""}, ("--bare",))
    yield Case("bare: an empty directory", {"none": None}, ("--bare",))
    yield Case("bare: one large file", {"w": seeded("bare", 3 * MIB)}, ("--bare",))


def trees() -> Iterator[Case]:
    """Yield directories: nested, large, empty, and with unusual names."""
    yield Case("nested", {"a/b/c/d/e/f": "deep", "a/b/g": "1", "h": "2"})
    yield Case("32 levels", {"/".join("abcdefghijklmnopqrstuvwxyzABCDEF"): "deepest"})
    yield Case("an empty directory", {"a": "1", "empty": None, "b/empty": None})
    yield Case("order of bytes", {"B": "1", "a-": "3", "a.b": "4", "a/b": "5", "aa": "6", "Z/z": "7"})
    yield Case("order of prefixes", {"ab": "1", "abc": "2", "ab c": "3", "ab-/x": "4", "abd": "5"})
    yield Case("unicode, composed", {"caf\u00e9.txt": "1", "\u00fc/\u00f1": "2"})
    yield Case("unicode, decomposed", {"cafe\u0301.txt": "1", "u\u0308/n\u0303": "2"})
    yield Case("unicode, beyond the basic plane", {"\U0001f600.bin": "1", "\u4e2d\u6587/\u6a21\u578b": "2"})
    yield Case("private and last characters", {"\uf8ff": "1", "\U0010fffd": "2", "\uffee": "3"})
    yield Case(
        "punctuation", {"a b": "1", "a\\b": "2", "a'b\"c": "3", "#x": "4", "-n": "5", "~": "6", "a:b": "7"}
    )
    yield Case("the longest name", {"n" * 255: "1"})
    yield Case("hidden files left out", {"a": "1", ".hidden": "2", ".git/config": "3", "b/.c": "4"})
    yield Case(
        "hidden files included", {"a": "1", ".hidden": "2", ".x/y": "3", "b/.c": "4"}, (*FULL, "--hidden")
    )
    yield Case("bare: hidden files left out", {"a": "1", ".hidden": "2"}, ("--bare",))
    yield Case("bare: hidden files included", {"a": "1", ".hidden": "2"}, ("--bare", "--hidden"))
    yield Case("300 files", {"layers": {"names": "layer-{:05}.bin", "count": 300, "text": "same"}})
    for count in (1000, 1100, 3000):
        large = {"names": "{:05}-" + "n" * 194, "count": count, "text": "same"}
        yield Case(f"{count} long names in a directory", {"large": large})
        yield Case(f"{count} long names at the top", {"": large})
    yield Case(
        "sharded checkpoint",
        {f"model-0000{n}-of-00003.safetensors": seeded(f"shard {n}", MIB + n) for n in (1, 2, 3)}
        | {"model.safetensors.index.json": '{"weight_map": {}}', "config.json": "{}"},
    )
    yield Case(
        "hub layout",
        {"README.md": "# A model\n", "LICENSE": "Apache-2.0\n", "config.json": "{}", "onnx/model.onnx": "o"}
        | {"tokenizer.json": "[]", "model.safetensors": seeded("hub", 100)},
    )


def special_files() -> Iterator[Case]:
    """Yield directories with a SHA256SUMS or a manifest.json of their own."""
    files = {"config.json": "{}", "model.safetensors": "weights"}
    listed = {"model": "my-llm", "files": sorted(files)}
    yield Case("own sums", files | {"SHA256SUMS": sums(files)})
    yield Case("own sums in another order", files | {"SHA256SUMS": sums(dict(reversed(files.items())))})
    yield Case("own sums, binary", files | {"SHA256SUMS": sums(files, line="{sum} *{path}\n")})
    yield Case("own sums below ./", files | {"SHA256SUMS": sums(files, line="{sum}  ./{path}\n")})
    yield Case("own sums with a comment", files | {"SHA256SUMS": "# by hand\n" + sums(files)})
    yield Case("own sums in capitals", files | {"SHA256SUMS": sums(files, upper=True)})
    yield Case("own sums without a final newline", files | {"SHA256SUMS": sums(files)[:-1]})
    backslash = {"a\\b": "1"}
    escaped = "\\" + sums({"a\\\\b": "1"})
    yield Case("own sums with an escaped name", backslash | {"SHA256SUMS": escaped})
    yield Case(
        "own sums below directories", {"x/y": "1", "z": "2", "SHA256SUMS": sums({"x/y": "1", "z": "2"})}
    )
    yield Case("own manifest", files | {"manifest.json": json.dumps(listed)})
    yield Case("own manifest, indented", files | {"manifest.json": json.dumps(listed, indent=4) + "\n"})
    more = listed | {
        "version": "1.2.0",
        "license": "MIT",
        "files": [*sorted(files), "SHA256SUMS", "manifest.json"],
    }
    yield Case("own manifest with more fields", files | {"manifest.json": json.dumps(more)})
    manifest = json.dumps(listed)
    yield Case(
        "own manifest and sums",
        files | {"manifest.json": manifest, "SHA256SUMS": sums(files | {"manifest.json": manifest})},
    )
    yield Case("own manifest without a sum", files | {"manifest.json": manifest, "SHA256SUMS": sums(files)})
    below = {"web/manifest.json": '{"name": "app"}', "web/SHA256SUMS": "no sums", "app/Manifest.json": "x"}
    yield Case("special names below a directory", below | {"a": "1"})
    yield Case("bare: a foreign manifest.json", {"manifest.json": '{"name": "app"}', "a": "1"}, ("--bare",))
    yield Case("bare: sums of nothing", {"SHA256SUMS": "no sums", "a": "1"}, ("--bare",))


def releases() -> Iterator[Case]:
    """Yield one directory as different releases."""
    files = {"model.safetensors": "weights", "config.json": "{}"}
    yield Case("release without format and time", files, RELEASE)
    yield Case("release with a format", files, (*RELEASE, "--format", "gguf"))
    yield Case(
        "release with another format", files, (*RELEASE, "--format", 'Format with \u00fc and "quotes"')
    )
    yield Case("release with a time", files, (*RELEASE, "--created-at", "2026-05-07T00:00:00Z"))
    yield Case("release with an offset", files, (*RELEASE, "--created-at", "2026-05-07T02:00:00+02:00"))
    for version in ("0.0.1", "1.2.0-rc.1", "1.0.0+cu118", "10.20.30-alpha.1+build.5"):
        yield Case(f"version {version}", files, ("--model", "my-llm", "--version", version))
    for model in ("a", "tiny-lm", "m.o_d-e.l", "x" * 64, "acme/My-LLM-7B"):
        yield Case(f"model {model}", files, ("--model", model, "--version", "1.0.0"))


def plant(root: Path, recipe: Recipe) -> Path:
    """Create the directory `root` as `recipe` says."""
    root.mkdir(parents=True)
    for path, content in recipe.items():
        place = root / path if path else root
        if content is None:
            place.mkdir(parents=True)
            continue
        if isinstance(content, dict) and "names" in content:
            place.mkdir(parents=True, exist_ok=True)
            for number in range(content["count"]):
                (place / content["names"].format(number)).write_text(content["text"])
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, str):
            place.write_bytes(content.encode())
        elif "zeros" in content:
            with place.open("wb") as file:
                file.truncate(content["zeros"])
        else:
            place.write_bytes(hashlib.shake_256(content["seed"].encode()).digest(content["size"]))
    return root


def identify(command: str, case: Case) -> dict[str, object]:
    """Return what `command identify` prints about the directory of `case`."""
    with tempfile.TemporaryDirectory() as scratch:
        directory = plant(Path(scratch) / "directory", case.files)
        done = subprocess.run(
            [command, "identify", str(directory), *case.arguments, "--json"],
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        sys.exit(f"error: {case.name}: {done.stderr.strip()}")
    document: dict[str, object] = json.loads(done.stdout)
    return {name: document[name] for name in FACTS}


def main() -> int:
    """Write the file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--reconcile", metavar="COMMAND", required=True, help="command of the release")
    parser.add_argument("--release", metavar="COMMIT", required=True, help="commit of the release")
    asked = parser.parse_args()
    vectors = [
        {"name": case.name, "files": case.files, "arguments": case.arguments, "outcome": "identity"}
        | identify(asked.reconcile, case)
        for case in cases()
    ]
    document = {"made_by": "scripts/make_roots.py", "release": asked.release, "vectors": vectors}
    ROOTS.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    print(f"{len(vectors)} directories in {ROOTS}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
