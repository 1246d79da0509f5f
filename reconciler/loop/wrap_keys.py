"""The keys of a sealed model brought in line with its recipients: made, or wrapped again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from reconciler.errors import UsageError, UserError
from reconciler.index.identities import identities_from
from reconciler.index.load import load_index
from reconciler.index.locations import RepositoryLayout
from reconciler.index.seal_keys import (
    WrappedKey,
    load_wrapped_keys,
    new_key,
    recipients_of,
    unlock,
    write_wrapped_key,
)


@dataclass(frozen=True, slots=True)
class KeyFiles:
    """What was done: the generations that were `made` and `rewrapped`, and the one that is `current`."""

    made: tuple[WrappedKey, ...]
    rewrapped: tuple[WrappedKey, ...]
    current: WrappedKey


def wrap_keys(
    layout: RepositoryLayout, model: str, environ: Mapping[str, str], *, another: bool = False
) -> KeyFiles:
    """Make the first key of `model`, or `another` one, and wrap all of its keys for its present recipients.

    Raises UsageError for a model that is not sealed, and UserError when a key that was wrapped for other
    recipients cannot be opened; nothing is written then.
    """
    known = load_index(layout.index_file).models.get(model)
    if known is None or known.seal is None:
        reason = "is not in the index" if known is None else "has no `seal` in the index"
        raise UsageError(f"{model!r} {reason}", hint="add `seal: {recipients: [age1…]}` to the model")
    recipients = recipients_of(known.seal, layout.root)
    wanted = tuple(each.text for each in recipients)
    generations = load_wrapped_keys(layout.index_file, model)
    outdated = [each for each in generations if each.recipients != wanted]
    identities = identities_from(environ, variable=known.seal.key_env) if outdated else []
    if outdated and not identities:
        raise UserError(
            f"{outdated[0].name} was wrapped for other recipients, and {known.seal.key_env} has no private "
            "key to open it with",
            hint=f"set {known.seal.key_env} to the private key of a recipient, or to a file with it",
        )
    opened = [(each, unlock(each, identities)) for each in outdated]
    index_file = layout.index_file
    rewrapped = tuple(
        write_wrapped_key(index_file, model, each.generation, key, recipients) for each, key in opened
    )
    made: tuple[WrappedKey, ...] = ()
    if another or not generations:
        number = generations[-1].generation + 1 if generations else 1
        made = (write_wrapped_key(index_file, model, number, new_key(), recipients),)
    return KeyFiles(made, rewrapped, made[0] if made else load_wrapped_keys(index_file, model)[-1])
