"""Labels: the names under which targets keep roots. Format: `reconciler/<owner>/<name>`.

`owner` is the id of an index, or "put" or "import" for roots that no index lists. `name` is `model@version`
for a version of an index (a model name may contain a slash), `model@version#2/5` for a part of one (see
part.py), and free text otherwise. The text up to and including the second slash is the mark: only roots that
carry our mark are ever changed or removed.
"""

from __future__ import annotations

from typing import Self

_PREFIX = "reconciler/"
_PUT, _IMPORT = "put", "import"  # owners of roots that no index lists
RESERVED_IDS = frozenset((_PUT, _IMPORT))  #: ids that no index may have


def mark_of(owner: str) -> str:
    """Return `reconciler/<owner>/`, the prefix of all labels of this owner."""
    return f"{_PREFIX}{owner}/"


PUT_MARK, IMPORT_MARK = mark_of(_PUT), mark_of(_IMPORT)


class Label(str):
    """A label of the reconciler; a string, so that targets store it unchanged.

    Raises ValueError for any other text.
    """

    __slots__ = ()

    def __new__(cls, text: str) -> Self:
        """Check the format."""
        owner, slash, name = text.removeprefix(_PREFIX).partition("/")
        if not text.startswith(_PREFIX) or not owner or not slash or not name:
            raise ValueError(f"not a label of the reconciler: {text!r}")
        return super().__new__(cls, text)

    @classmethod
    def of(cls, owner: str, name: str) -> Self:
        """Return the label of `name` among the roots of `owner`."""
        return cls(mark_of(owner) + name)

    @property
    def owner(self) -> str:
        """The id of the index, or "put" or "import"."""
        return self.split("/", 2)[1]

    @property
    def mark(self) -> str:
        """`reconciler/<owner>/`, the prefix of all labels of the same owner."""
        return mark_of(self.owner)

    @property
    def name(self) -> str:
        """The last part: `model@version` for a version of an index, else free text."""
        return self.split("/", 2)[2]

    @property
    def version(self) -> tuple[str, str]:
        """The model and the version in `name`; the version is "" when the name has none."""
        model, _, version = self.name.partition("@")
        return model, version.partition("#")[0]
