"""Check the structure and the vocabulary of the package, as CONTRIBUTING.md describes them.

    python scripts/check_structure.py                  check; exit 1 and name each violation
    python scripts/check_structure.py --figures        print the counts as well
    python scripts/check_structure.py --subject FILE   check the subject of a commit message (commit-msg hook)

It checks that class names are unique in the package, that exceptions end in `Error`, that a module has a
docstring and at most 450 lines, that no modules import each other in a circle (even inside functions),
that imports point downwards, that each mechanism has one home (HOMES), and that no text uses a phrase of
BANNED.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
import tomllib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
PACKAGE = PROJECT / "reconciler"

MAX_LINES = 450  #: of a module
MAX_SUBJECT = 72  #: characters of a commit subject
ALLOWED_UPWARD = {("reconciler", "reconciler.api")}  #: the package offers its Python API

#: names that two classes may share, with the reason
SHARED_NAMES: dict[str, str] = {}

#: what may be used in one place only: pattern of a line -> the files that may contain it
HOMES: dict[str, tuple[str, ...]] = {
    r"\bhttpx\b": ("net/transport.py",),
    r"\bhttpcore\b": ("net/connections.py", "net/transport.py"),
    r"\bimport git\b|\bfrom git\b": ("git/runner.py",),
    r"\bfcntl\.(flock|lockf)\b|\bfilelock\b": ("fs.py",),
    r"\bos\.(pwrite|pread)\(": ("fs.py",),
    r"\bmkstemp\b|NamedTemporaryFile": (),
    r"\bobject_pairs_hook\b": ("json_fields.py",),
    r"\beth_(account|abi|utils|keys)\b": ("deals/onchain/keys.py",),
    r"(?:import|from) sigstore\b": ("trust/keyless.py",),
    r"(?:import|from) securesystemslib\b": ("trust/signing.py",),
}

#: phrases that read as translated, or metaphors where a standard term exists
BANNED = re.compile(
    r"\b(?:(?:do|does|did) not hold|nobody|whoever|whomever|likewise|nowhere|mend(?:ed|s|ing)?|wedged?|leash"
    r"|farewell|(?:is|are|was|were) (?:told|believed|said)|as (?:it|they) says?|(?:has|have) to stand"
    r"|should stand|stands? (?:t?here)|(?:that|which) (?:is|are) none|knows us not|get better by itself"
    r"|in the way of|comes of it)\b",
    re.IGNORECASE,
)
PROSE = ("README.md", "CONTRIBUTING.md", "SECURITY.md", "action.yml", "docs", "schemas")


@dataclass(frozen=True, slots=True)
class Module:
    """One module of the package: its dotted name, its path below the package, and its parsed text."""

    name: str
    path: str
    text: str
    tree: ast.Module

    @property
    def lines(self) -> int:
        """The number of lines."""
        return self.text.count("\n")


def read_modules() -> list[Module]:
    """Parse every module of the package."""
    found = []
    for file in sorted(PACKAGE.rglob("*.py")):
        path = file.relative_to(PACKAGE)
        parts = ["reconciler", *path.with_suffix("").parts]
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        text = file.read_text(encoding="utf-8")
        found.append(Module(name, path.as_posix(), text, ast.parse(text)))
    return found


def shared_names(modules: list[Module]) -> dict[str, list[str]]:
    """Return the class names that several classes have, with the modules that define them."""
    homes: dict[str, list[str]] = defaultdict(list)
    for module in modules:
        for node in ast.walk(module.tree):
            if isinstance(node, ast.ClassDef):
                homes[node.name].append(module.path)
    return {name: paths for name, paths in homes.items() if len(paths) > 1}


def misnamed_exceptions(modules: list[Module]) -> Iterator[str]:
    """Yield the exceptions whose names do not end in `Error`."""
    bases = {
        node.name: [ast.unparse(base).rpartition(".")[2] for base in node.bases]
        for module in modules
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ClassDef)
    }

    def is_exception(name: str, below: frozenset[str] = frozenset()) -> bool:
        if name in ("Exception", "BaseException") or name.endswith("Error"):
            return True
        return any(is_exception(base, below | {name}) for base in bases.get(name, ()) if base not in below)

    for name, parents in bases.items():
        if any(is_exception(parent) for parent in parents) and not name.endswith("Error"):
            yield name


def imports(modules: list[Module]) -> dict[str, set[str]]:
    """Return the modules of the package that each module imports at run time, also inside functions."""
    names = {module.name for module in modules}
    found: dict[str, set[str]] = {}
    for module in modules:
        typing_only = {
            id(inner)
            for node in ast.walk(module.tree)
            if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
            for inner in ast.walk(node)
        }
        targets = found.setdefault(module.name, set())
        for node in ast.walk(module.tree):
            if id(node) in typing_only:
                continue
            if isinstance(node, ast.ImportFrom) and node.module:
                targets |= {
                    inner if (inner := f"{node.module}.{alias.name}") in names else node.module
                    for alias in node.names
                }
            elif isinstance(node, ast.Import):
                targets |= {alias.name for alias in node.names}
        targets &= names - {module.name}
    return found


def circles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """Return the groups of modules that import each other in a circle (Tarjan's algorithm)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for other in graph[name]:
            if other not in index:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], index[other])
        if low[name] == index[name]:
            group: list[str] = []
            while not group or group[-1] != name:
                group.append(stack.pop())
            if len(group) > 1:
                found.append(sorted(group))

    for name in graph:
        if name not in index:
            visit(name)
    return found


def upward_imports(graph: Mapping[str, set[str]]) -> list[tuple[str, str]]:
    """Return the imports that do not point to a lower layer of the contract in pyproject.toml."""
    settings = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))
    contract = settings["tool"]["importlinter"]["contracts"][0]
    layers: list[list[str]] = [re.findall(r"reconciler\.[\w.]+", layer) for layer in contract["layers"]]
    floors = {room: len(layers) - number for number, layer in enumerate(layers) for room in layer}
    floors["reconciler"] = 3  # the package itself: above the ground, because it states its version

    def room_of(name: str) -> str:
        return max((room for room in floors if f"{name}.".startswith(f"{room}.")), key=len)

    found = []
    for name, targets in graph.items():
        for target in sorted(targets):
            here, there = room_of(name), room_of(target)
            if here != there and floors[there] >= floors[here]:
                found.append((name, target))
    return found


def wrong_homes(modules: list[Module]) -> Iterator[str]:
    """Yield the lines that use a mechanism outside its home."""
    for pattern, homes in HOMES.items():
        used = re.compile(pattern)
        for module in modules:
            if module.path in homes or module.path == "net/__init__.py":
                continue
            for number, line in enumerate(module.text.splitlines(), start=1):
                if used.search(line.partition("#")[0]) and not line.lstrip().startswith(('"""', "#")):
                    place = ", ".join(homes) or "fs.py"
                    yield f"reconciler/{module.path}:{number}: {line.strip()} (belongs in {place})"


def banned_phrases() -> Iterator[str]:
    """Yield the lines of the package and its pages that use a banned phrase."""
    files = [*PACKAGE.rglob("*.py")]
    for place in PROSE:
        path = PROJECT / place
        files += [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    for file in sorted(files):
        if file.name == "0000-template.md":
            continue
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
            if found := BANNED.search(line):
                yield f"{file.relative_to(PROJECT)}:{number}: {found[0]!r}: {line.strip()}"


def subject_problems(subject: str) -> Iterator[str]:
    """Yield what is wrong with the subject of a commit message."""
    if len(subject) > MAX_SUBJECT:
        yield f"the subject has {len(subject)} characters; at most {MAX_SUBJECT} are allowed"
    if ";" in subject:
        yield "the subject contains ';': make one commit of each idea"
    if not re.match(r"(?:[a-z][\w/, -]*: \S|Merge |Revert |fixup! |squash! )", subject):
        yield "the subject is not 'room: verb object', such as 'store: write the label last'"


def main() -> int:
    """Run the checks."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--figures", action="store_true", help="print the counts as well")
    parser.add_argument("--subject", type=Path, metavar="FILE", help="check a commit message instead")
    asked = parser.parse_args()
    if asked.subject is not None:
        subject = asked.subject.read_text(encoding="utf-8").partition("\n")[0]
        return _report(list(subject_problems(subject)))
    modules = read_modules()
    graph = imports(modules)
    shared, loops, upward = shared_names(modules), circles(graph), upward_imports(graph)
    if asked.figures:
        lengths = sorted(module.lines for module in modules)
        print(
            f"modules: {len(modules)}; lines: {sum(lengths)}; median: {lengths[len(lengths) // 2]}", end="; "
        )
        print(f"longest: {lengths[-1]}; at most 60 lines: {sum(length <= 60 for length in lengths)}")
        print(f"shared class names: {len(shared)}; circles: {len(loops)}; upward imports: {len(upward)}")
    problems = [
        f"several classes are called {name}: {', '.join(paths)}"
        for name, paths in sorted(shared.items())
        if name not in SHARED_NAMES
    ]
    problems += [f"the exception {name} does not end in 'Error'" for name in misnamed_exceptions(modules)]
    problems += [
        f"reconciler/{module.path} has {module.lines} lines; at most {MAX_LINES} are allowed"
        for module in modules
        if module.lines > MAX_LINES
    ]
    problems += [
        f"reconciler/{module.path} has no docstring"
        for module in modules
        if not ast.get_docstring(module.tree)
    ]
    problems += [f"modules import each other in a circle: {', '.join(group)}" for group in loops]
    problems += [
        f"{name} imports {target}, which is not below it"
        for name, target in upward
        if (name, target) not in ALLOWED_UPWARD
    ]
    problems += [*wrong_homes(modules), *banned_phrases()]
    return _report(problems)


def _report(problems: list[str]) -> int:
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
