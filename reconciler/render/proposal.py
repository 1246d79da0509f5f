"""The text of a pull request with resolved CIDs: what, how large, and how to check it oneself."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from reconciler.index.model import Record
from reconciler.render.markdown import MAX_CHARACTERS, code
from reconciler.render.words import count, size


def describe(cids: Sequence[tuple[str, str]], records: Sequence[Record], directory: str) -> tuple[str, str]:
    """Title and body for pairs of `model@version` and CID; `directory` is where the records are, in the
    repository.
    """
    title = f"Resolve {cids[0][0]}" if len(cids) == 1 else f"Resolve {count(len(cids), 'CID')}"
    return title, _body(cids, records, directory)


def templated(
    title: str, body: str
) -> Callable[[Sequence[tuple[str, str]], Sequence[Record], str], tuple[str, str]]:
    """`describe` within a team's own words: `{title}`, `{body}` and `{versions}` stand for ours.

    An empty template is ours alone. Only these three are replaced, so that braces may be text.
    """

    def describe_so(
        cids: Sequence[tuple[str, str]], records: Sequence[Record], directory: str
    ) -> tuple[str, str]:
        ours = describe(cids, records, directory)
        versions = ", ".join(ref for ref, _ in cids)
        return _filled(title or "{title}", ours, versions), _filled(body or "{body}", ours, versions)

    return describe_so


def _filled(template: str, ours: tuple[str, str], versions: str) -> str:
    words = {"{title}": ours[0], "{body}": ours[1], "{versions}": versions}
    return re.sub(r"\{(?:title|body|versions)\}", lambda found: words[found[0]], template)


def _body(cids: Sequence[tuple[str, str]], records: Sequence[Record], directory: str) -> str:
    facts = {f"{record.model}@{record.version}": record for record in records}
    lines = [
        "These versions were published, and every block was checked on the targets.",
        "",
        "| version | CID | size | record |",
        "|---|---|---|---|",
    ]
    used = sum(map(len, lines))
    for number, (ref, cid) in enumerate(cids):
        record = facts.get(ref)
        told = f"{size(record.size)} in {count(record.files, 'file')}" if record else ""
        path = f"{directory}/{record.model}/{record.version}.json" if record else ""
        line = f"| {code(ref)} | {code(cid)} | {told} | {code(path)} |"
        used += len(line) + 1
        if used > MAX_CHARACTERS:
            lines.append(f"\n…and {len(cids) - number:,} more, left out to fit.")
            break
        lines.append(line)
    lines += [
        "",
        "To check one yourself, where its files are: `reconcile verify MODEL@VERSION` reads every byte and",
        "must say `ok` with the CID above. After the merge the next run finds everything in order.",
    ]
    return "\n".join(lines) + "\n"
