"""Declarative GitOps for AI model weights on IPFS and Filecoin.

Git declares which versions of which models must exist, and under which CID. The reconciler observes where
the bytes are, shows the difference, and closes it. The rooms, from the ground up; imports point down only:

    errors, progress      the exception tree; the progress of long work
    content, net          directory <-> blocks <-> CAR; the one HTTP layer
    index, forges, deals  the declared versions; pull requests; proofs that pieces are stored
    targets               the places that hold bundles, behind one interface
    loop                  observe, plan, safety, apply, propose
    consume, gateway      fetch and verify bundles; serve the content of stores
    render                plan and report as text, JSON and Markdown
    cli                   flags -> objects -> exit code

For programs that load models: `reconciler.resolve` and `reconciler.fetch` (see `reconciler.api`).
"""

from typing import TYPE_CHECKING

from reconciler.version import __version__

if TYPE_CHECKING:
    from reconciler.api import Resolution, Sources, fetch, resolve

__all__ = ["Resolution", "Sources", "__version__", "fetch", "resolve"]


def __getattr__(name: str) -> object:
    """Load the Python interface when it is used, so that the command starts quickly."""
    if name in __all__:
        from reconciler import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
