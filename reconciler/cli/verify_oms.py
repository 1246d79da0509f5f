"""`reconcile verify --oms`: a model that somebody else signed, compared with its signature file by file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from reconciler.cli import output as out
from reconciler.errors import DataError, ExitCode, UsageError
from reconciler.render.words import count, plain, size

if TYPE_CHECKING:
    from reconciler.trust.policy import AcceptedSigner


def verify_oms(model: Path, key: Path | None, name: str, *, as_json: bool) -> int:
    """Verify the model at `model`, signed by `key`, or else by the trust rule about `name`; return the code.

    Raises UsageError when nothing says who may have signed it, and what the check raises.
    """
    from reconciler.consume.foreign_model import check_model
    from reconciler.render.signatures import foreign_model_document

    if not model.exists():
        raise UsageError(f"no directory or file at {str(model)!r}")
    with out.progress() as progress:
        found = check_model(model, _signers(key, name), progress)
    if as_json:
        out.result_json(foreign_model_document(name, model, found))
    else:
        for each in found.differences:
            out.result(f"{each.kind.value:<8} {plain(each.path)}")
        if found.differences:
            number = count(len(found.differences), "file differs", "files differ")
            out.say(f"{str(model)!r} is not what {found.signer} signed: {number}")
        else:
            out.result(f"ok: {plain(str(model))} is what {plain(found.signer)} signed")
            out.say(f"{count(found.files, 'file')}, {size(found.size)}, every byte read")
        if found.uncovered:
            names = ", ".join(plain(path) for path in found.uncovered[:5])
            more = f" and {len(found.uncovered) - 5} more" if len(found.uncovered) > 5 else ""
            out.warn(f"the signature does not cover {names}{more}")
    return ExitCode.ERROR if found.differences else ExitCode.OK


def _signers(key: Path | None, name: str) -> tuple[AcceptedSigner, ...]:
    from reconciler.index.user_config import config_file, load_config
    from reconciler.trust.policy import KeyHolder
    from reconciler.trust.public_keys import parse_public_key
    from reconciler.trust.rules import make_policy, read_file

    if key is not None:
        try:
            return (KeyHolder(parse_public_key(read_file(key), repr(str(key))), key.name),)
        except DataError as error:
            raise UsageError(error.message, hint=error.hint) from None
    rules = load_config(config_file(os.environ)).trust
    rule = next((each for each in rules if each.covers(name) and not each.index), None)
    if rule is None or rule.mode == "off":
        raise UsageError(
            f"nothing says who may have signed {name!r}",
            hint="name the public key with --key, or the model of a trust rule with --as NAME",
        )
    return make_policy(rule).signers
