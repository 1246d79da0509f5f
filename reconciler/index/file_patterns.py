"""The keys `include` and `exclude` of an index: lists of patterns in gitignore syntax."""

from __future__ import annotations

from reconciler.content.patterns import MAX_PATTERNS, FilePatterns, parse_pattern
from reconciler.errors import DataError
from reconciler.index.guarded_yaml import IndexProblem, YamlMapping, YamlScalar, YamlSequence, shown


def read_patterns(node: YamlMapping, inherited: FilePatterns, problems: list[IndexProblem]) -> FilePatterns:
    """Return the patterns of `node`; each of the two lists is `inherited` when it has none.

    What is invalid is added to `problems`, with its line.
    """
    return FilePatterns(
        _read(node, "include", inherited.include, problems),
        _read(node, "exclude", inherited.exclude, problems),
    )


def _read(
    node: YamlMapping, key: str, inherited: tuple[str, ...], problems: list[IndexProblem]
) -> tuple[str, ...]:
    value = node.value(key)
    if value is None:
        return inherited
    line = getattr(value, "line", 1)
    if not isinstance(value, YamlSequence) or not all(isinstance(item, YamlScalar) for item in value):
        problems.append(IndexProblem(line, f"{key!r} must be a list of patterns", f'{key}: ["*.log"]'))
        return inherited
    if len(value) > MAX_PATTERNS:
        problems.append(IndexProblem(line, f"{key!r} has more than {MAX_PATTERNS} patterns", None))
        return inherited
    for item in value:
        try:
            parse_pattern(str(item))
        except DataError as error:
            problems.append(
                IndexProblem(item.line, f"{key} pattern {shown(str(item))} {error.message}", error.hint)
            )
    return tuple(str(item) for item in value)
