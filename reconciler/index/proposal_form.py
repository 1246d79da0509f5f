"""The form that a repository demands of proposals: `proposals:` in releases/targets.yaml.

It is beside the targets and not in the index, since only runs need it: readers of an index, of any version of
the reconciler, never see it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from reconciler.errors import UsageError
from reconciler.index import guarded_yaml, schemas
from reconciler.index.guarded_yaml import YamlMapping, YamlScalar

SIGN_OFF = "RECONCILE_PROPOSAL_SIGN_OFF"


@dataclass(frozen=True, slots=True)
class ProposalForm:
    """`sign_off`: commits end in `Signed-off-by` with their author. `title` is a template for the subject of
    commits and the title of pull requests, "" for ours.
    """

    sign_off: bool = False
    title: str = ""

    def titled(self, ours: str, refs: Sequence[str]) -> str:
        """Return the title of a proposal of the versions `refs`; `ours` is our own."""
        words = {"{title}": ours, "{versions}": ", ".join(refs)}
        filled = re.sub(r"\{(?:title|versions)\}", lambda found: words[found[0]], self.title)
        return filled.strip() or ours


def read_proposal_form(data: bytes, name: str, environ: Mapping[str, str]) -> ProposalForm:
    """Return the form in a valid targets file; RECONCILE_PROPOSAL_SIGN_OFF in `environ` overrides it.

    Raises UsageError for an invalid variable.
    """
    form = ProposalForm()
    tree = guarded_yaml.parse(guarded_yaml.decode(data, name), name) if data else None
    node = tree.value("proposals") if isinstance(tree, YamlMapping) else None
    if isinstance(node, YamlMapping):
        sign_off, title = node.value("sign_off"), node.value("title")
        form = ProposalForm(
            isinstance(sign_off, YamlScalar) and schemas.as_boolean(sign_off) is True,
            " ".join(str(title).split()) if isinstance(title, YamlScalar) else "",
        )
    given = environ.get(SIGN_OFF, "")
    if given not in ("", "true", "false"):
        raise UsageError(f"{SIGN_OFF} is {given!r}", hint="set it to true or false")
    return replace(form, sign_off=given == "true") if given else form
