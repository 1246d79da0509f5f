"""Parse CHANGELOG.md according to its grammar."""

from __future__ import annotations

import re


class Changelog:
    """A changelog parsed by the grammar in CONTRIBUTING.md, and its violations of this grammar."""

    VERSION = re.compile(
        r"## (?:Unreleased|(?P<version>\d+\.\d+\.\d+(?:-[\w.]+)?) - (?P<date>\d{4}-\d\d-\d\d))"
    )
    SECTION = re.compile(r"### (?P<name>Added|Changed|Fixed|Removed|Security)")
    ENTRY = re.compile(r"- [A-Z`].*\.")

    def __init__(self, text: str) -> None:
        self.problems: list[str] = []
        self.versions: list[tuple[str | None, str | None]] = []
        seen: set[str] = set()
        last = "title"
        for number, line in enumerate(text.splitlines()[1:], start=2):
            if match := self.VERSION.fullmatch(line):
                self._follows(number, last, ("title", "entry", "version"))
                self.versions.append((match["version"], match["date"]))
                seen, last = set(), "version"
            elif match := self.SECTION.fullmatch(line):
                self._follows(number, last, ("version", "entry"))
                if match["name"] in seen:
                    self.problems.append(f"line {number}: a second {match['name']!r}")
                seen.add(match["name"])
                last = "section"
            elif self.ENTRY.fullmatch(line):
                self._follows(number, last, ("section", "entry"))
                last = "entry"
            elif line and last != "title":
                self.problems.append(f"line {number}: neither a heading nor a whole sentence: {line!r}")
        self._follows(number, last, ("entry", "version"))
        dates = [date for _, date in self.versions if date]
        if dates != sorted(dates, reverse=True):
            self.problems.append("the newest version comes first")

    def _follows(self, number: int, last: str, allowed: tuple[str, ...]) -> None:
        if last not in allowed:
            self.problems.append(f"line {number}: cannot follow a {last}")
