"""The options that commands share, declared once, and how they become a Layout or Settings.

`takes(maker)` gives a command the options of `maker`: the command declares one parameter for what the maker
returns, and the command line shows the maker's own parameters in its place.
"""

import inspect
from collections.abc import Callable
from functools import cache, partial, wraps
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from reconciler.cli.reading import Reading
from reconciler.index.layout import Layout, find_layout
from reconciler.loop.settings import Drift, ProposeMode, Settings
from reconciler.targets.check import Check

R = TypeVar("R")

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
Ref = Annotated[
    str,
    typer.Argument(
        metavar="REF", help="model@1.2.0, model@^1.2, model@CHANNEL, model (the highest), or a CID."
    ),
]
Hidden = Annotated[bool, typer.Option("--hidden", help="Take files whose name begins with a dot as well.")]
ExitCodeFlag = Annotated[bool, typer.Option("--exit-code", help="Exit with 3 when changes are pending.")]
NoCache = Annotated[
    bool, typer.Option("--no-cache", help="Read every byte again; never needed for a right result.")
]


def layout(
    context: typer.Context,
    directory: Annotated[
        Path | None,
        typer.Option("-C", metavar="DIR", help="The repository to work on, not the one around here."),
    ] = None,
    index: Annotated[
        Path | None,
        typer.Option("--index", metavar="FILE", help="The versions index, not releases/index.yaml."),
    ] = None,
    targets: Annotated[
        Path | None,
        typer.Option(
            "--targets", metavar="FILE", help="What target names mean, not targets.yaml beside the index."
        ),
    ] = None,
    source_root: Annotated[
        Path | None,
        typer.Option(
            "--source-root", metavar="DIR", help="Where paths in the index begin, not the repository."
        ),
    ] = None,
) -> Layout:
    """Where things are: `-C DIR` if given, else the nearest directory upwards that has an index.

    Raises UsageError when there is no index, or when something given is not there.
    """
    return find_layout(directory or context.obj, index, targets, source_root)


def reading(
    context: typer.Context,
    directory: Annotated[
        Path | None,
        typer.Option("-C", metavar="DIR", help="The repository to read, not the one around here."),
    ] = None,
    index: Annotated[
        str | None,
        typer.Option(
            "--index",
            metavar="FILE|URL",
            help="The versions index: a file, https://, git+https://…@REF, ipfs:// or ipns://.",
        ),
    ] = None,
    offline: Annotated[
        bool, typer.Option("--offline", help="Use an index elsewhere as it was last read.")
    ] = False,
    gateway: Annotated[
        list[str] | None, typer.Option("--gateway", metavar="URL", help="A trustless gateway to ask.")
    ] = None,
) -> Reading:
    """Which index is read."""
    return Reading(directory or context.obj, index, offline, tuple(gateway or ()))


def settings(
    layout: Layout,
    only: Annotated[
        list[str] | None,
        typer.Option(
            "--only", metavar="GLOB", help="Only these models, versions (model@version) or targets."
        ),
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option("--exclude", metavar="GLOB", help="Leave these models, versions or targets out."),
    ] = None,
    check: Annotated[
        Check,
        typer.Option("--check", help="How deep to look: listings, random leaves as well, or every byte."),
    ] = Check.QUICK,
    drift: Annotated[
        Drift,
        typer.Option("--drift", help="What to do about published versions that are not whole any more."),
    ] = Drift.REPAIR,
    propose: Annotated[
        ProposeMode,
        typer.Option("--propose", help="Where resolved CIDs go: the working tree, a branch, or nowhere."),
    ] = ProposeMode.WRITE,
    prune: Annotated[
        bool, typer.Option("--prune", help="Unpin what carries our mark and is no longer asked for.")
    ] = False,
    allow_removals: Annotated[
        int | None,
        typer.Option(
            "--allow-removals", metavar="N", min=0, help="How many removals a target may see in this run."
        ),
    ] = None,
    allow_unpin_repair: Annotated[
        bool,
        typer.Option("--allow-unpin-repair", help="Allow repairs that need a moment of being unpinned."),
    ] = False,
    base: Annotated[
        str | None,
        typer.Option(
            "--base", metavar="REF", help="Check frozen CIDs against this commit, not the whole history."
        ),
    ] = None,
    no_cache: NoCache = False,
) -> Settings:
    """Everything a run was asked for."""
    return Settings(
        layout=layout,
        only=tuple(only or ()),
        exclude=tuple(exclude or ()),
        check=check,
        drift=drift,
        propose=propose,
        prune=prune,
        allow_removals=allow_removals,
        allow_unpin_repair=allow_unpin_repair,
        base=base,
        use_cache=not no_cache,
    )


def takes(
    maker: Callable[..., Any], *, lazily: bool = False
) -> Callable[[Callable[..., R]], Callable[..., R]]:
    """Replace a command's parameter named like `maker` by the parameters of `maker`.

    Makers may build on each other in the same way: `settings` has a parameter `layout`. With `lazily`, the
    command gets a function without parameters that makes the thing.
    """
    expanded = _expand(maker)

    def decorate(command: Callable[..., R]) -> Callable[..., R]:
        @wraps(command)
        def run(**values: Any) -> R:
            make = partial(expanded, **{name: values[name] for name in shared})
            rest = {name: value for name, value in values.items() if name in own}
            return command(**{maker.__name__: make if lazily else make()}, **rest)

        own = dict(_parameters(command))
        shared = _parameters(expanded)
        del own[maker.__name__]
        _sign(run, {**own, **shared})
        return run

    return decorate


@cache
def _expand(maker: Callable[..., Any]) -> Callable[..., Any]:
    return takes(layout)(maker) if "layout" in _parameters(maker) else maker


@cache
def _parameters(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    return dict(inspect.signature(function).parameters)


def _sign(function: Callable[..., Any], parameters: dict[str, inspect.Parameter]) -> None:
    ordered = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in parameters.values()]
    function.__signature__ = inspect.Signature(ordered)  # type: ignore[attr-defined] # inspect reads it
    function.__annotations__ = {p.name: p.annotation for p in ordered}
