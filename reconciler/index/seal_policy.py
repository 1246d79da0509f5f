"""The keys `seal` and `public` of a model: whether its versions are sealed, and who may open them.

seal: {recipients: ["age1…", "ssh-ed25519 …", "releases/readers.txt"], key_env: MODEL_KEY, names: sealed}
seal: none
public: false
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from reconciler.index.guarded_yaml import IndexProblem, YamlMapping, YamlNode, YamlScalar, YamlSequence, shown
from reconciler.index.version_source import path_problem

NONE = "none"  #: of a model that was sealed, and is published in the clear from now on
KEY_ENV = "RECONCILE_IDENTITY"  #: the default variable with a private key

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_KEYS = ("age1", "age-secret-key-", "ssh-")
_MOST_RECIPIENTS = 1000


@dataclass(frozen=True, slots=True)
class SealPolicy:
    """How the versions of a model are sealed.

    `recipients` are public keys, and paths of files with them, relative to the repository. `key_env` is the
    variable that contains a private key that opens the key of the model, or the path of a file with one.
    """

    recipients: tuple[str, ...]
    key_env: str = KEY_ENV
    hides_names: bool = False


def is_key(recipient: str) -> bool:
    """Return whether a recipient of a policy is a key, and not the path of a file."""
    return recipient.lower().startswith(_KEYS)


def read_seal_policy(node: YamlMapping, problems: list[IndexProblem]) -> SealPolicy | None:
    """Return the policy of a model, None without one; add what is invalid in it to `problems`."""
    value = node.value("seal")
    if value is None or value == NONE:
        return None
    if not isinstance(value, YamlMapping):
        hint = "seal: {recipients: [age1…]}, or `seal: none`"
        problems.append(IndexProblem(_line(value), "'seal' must be a mapping with recipients", hint))
        return None
    names = value.value("names")
    if names not in (None, "plain", "sealed"):
        problems.append(IndexProblem(_line(names), "'names' must be plain or sealed", None))
    variable = value.value("key_env")
    if variable is not None and not (isinstance(variable, YamlScalar) and _VARIABLE.fullmatch(variable)):
        problems.append(
            IndexProblem(
                _line(variable),
                "'key_env' is not the name of an environment variable",
                "the private key itself never belongs into the index",
            )
        )
        variable = None
    key_env = KEY_ENV if variable is None else str(variable)
    return SealPolicy(_recipients(value, problems), key_env, hides_names=names == "sealed")


def seals_no_more(node: YamlMapping) -> bool:
    """Return whether a model says `seal: none`."""
    return node.value("seal") == NONE


def _recipients(node: YamlMapping, problems: list[IndexProblem]) -> tuple[str, ...]:
    values = node.value("recipients")
    if not isinstance(values, YamlSequence) or not 0 < len(values) <= _MOST_RECIPIENTS:
        what = f"'recipients' must be a list of 1 to {_MOST_RECIPIENTS} keys and files"
        problems.append(
            IndexProblem(_line(node if values is None else values), what, "`age-keygen` makes a key")
        )
        return ()
    found = ((each, _recipient_problem(each)) for each in values)
    problems += [IndexProblem(_line(each), *problem) for each, problem in found if problem is not None]
    return tuple(" ".join(str(each).split()) if is_key(str(each)) else str(each) for each in values)


def _recipient_problem(node: YamlNode) -> tuple[str, str | None] | None:
    from reconciler.content.age.errors import AgeKeyError
    from reconciler.content.age.keys import parse_recipient

    if not isinstance(node, YamlScalar):
        return "a recipient is not a text", None
    if not is_key(node):
        problem = path_problem(node)
        return None if problem is None else (f"the file of recipients {shown(node)} {problem[0]}", problem[1])
    try:
        parse_recipient(node)
    except AgeKeyError as error:
        return error.message, error.hint
    return None


def _line(node: YamlNode | None) -> int:
    return getattr(node, "line", 1)
