"""Our mark on pins that carry a name and free metadata: IPFS Cluster and the Pinning Service API.

The label is written twice, as the name and in the metadata, because services exist that drop or cut either
one.
"""

from __future__ import annotations

from collections.abc import Mapping

_MARK_KEY = "reconciler"
_MARK_VALUE = "1"


def mark_of(label: str) -> str:
    """The mark `reconciler/<index id>/` of the label `reconciler/<index id>/<model>@<version>`."""
    return label[: label.rfind("/") + 1]


def metadata(label: str) -> dict[str, str]:
    """The metadata that says a pin is ours, and under which label."""
    index = mark_of(label).rstrip("/").rpartition("/")[2]
    return {_MARK_KEY: _MARK_VALUE, "index": index, "label": label}


def label_of(name: str, meta: Mapping[str, str]) -> str:
    """The label of a pin with this name and metadata, ours or foreign; "" when it has none."""
    if meta.get(_MARK_KEY) == _MARK_VALUE and meta.get("label"):
        return meta["label"]
    return name
