"""Hidden markers by which our comments are found again: an HTML comment that Markdown does not show."""

from __future__ import annotations

import re

from reconciler.errors import UsageError

_NAME = re.compile(r"[a-z0-9][a-z0-9./-]*")


def marked(marker: str, body: str) -> str:
    """`body` behind its marker. Raises UsageError for a marker that could end the HTML comment it is in."""
    if not _NAME.fullmatch(marker) or "--" in marker:
        raise UsageError(
            f"{marker!r} is no marker", hint="use lower-case letters, digits, '.', '/' and single '-'"
        )
    return f"<!-- reconciler:{marker} -->\n{body}"
