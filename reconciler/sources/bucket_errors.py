"""Errors of obstore as errors of a source.

Messages of obstore (0.12) contain the address of the request, the body of the answer and a dump of many
lines; a signed address is a secret. Nothing of a message is shown but a status and an error code of the
service.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from reconciler.errors import ReconcilerError, SourceChangedError
from reconciler.net.errors import sanitize
from reconciler.sources.interface import (
    SourceMissingError,
    SourceProtocolError,
    SourceRefusedError,
    SourceUnavailableError,
)
from reconciler.sources.ranges import BrokenOffError

_STATUS = re.compile(r"status code: (\d{3})\b")
_CODE = re.compile(r"<Code>([A-Za-z0-9]{1,60})</Code>")
_KEY = re.compile(r'\bPath "((?:[^"\\]|\\.){1,1100})"')
_SHOWN = 200  # characters of a key
_TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})
_OVERLOADED = frozenset({429, 503})  # S3 asks for fewer requests with 503 (SlowDown)
_LONGEST = 20_000  # characters of a message that are searched


class IgnoredRangeError(Exception):
    """The service answered a request for a range as if it were one for the whole object."""


@contextmanager
def translated(name: str, *, credential: str, file: str = "", begun: bool = False) -> Iterator[None]:
    """Translate what obstore raises in the block into errors of the source `name`.

    `credential` says for a refusal which credential was used. After `begun`, a failure that may pass is a
    BrokenOffError. Raises SourceError, SourceChangedError and IgnoredRangeError.
    """
    try:
        yield
    except (ReconcilerError, IgnoredRangeError):
        raise
    except FileNotFoundError:
        what = "is not in the bucket" if file else "there is no such bucket or object"
        raise SourceMissingError(name, what, file=file) from None
    except Exception as error:
        if not _is_of_obstore(error):
            raise
        raise _translate(error, name, credential=credential, file=file, begun=begun) from None


def _is_of_obstore(error: Exception) -> bool:
    return isinstance(error, ValueError) or type(error).__module__.startswith("obstore")


def _translate(error: Exception, name: str, *, credential: str, file: str, begun: bool) -> Exception:
    text = str(error)[:_LONGEST]
    kind = type(error).__name__
    found = _STATUS.search(text)
    status = int(found[1]) if found else None
    code = _CODE.search(text)
    answer = f"answered with status {status}" + (f" ({code[1]})" if code else "") if status else ""
    if kind == "PreconditionError" or status in (412, 416):
        return changed(name, file)
    if "non-partial response" in text:
        return IgnoredRangeError()
    if kind in ("PermissionDeniedError", "UnauthenticatedError") or status in (401, 403):
        return SourceRefusedError(
            name, answer or "refuses access", file=file, hint=f"the request was made with {credential}"
        )
    if status == 404:
        return SourceMissingError(name, answer, file=file, hint="check the bucket and its region")
    if status in (301, 302, 307, 308) or "redirect without LOCATION" in text:
        hint = "set `region` to that of the bucket"
        return SourceRefusedError(name, "redirects, as for another region", file=file, hint=hint)
    if isinstance(error, ValueError) or kind in ("InvalidPathError", "NotSupportedError"):
        if not file and (key := _KEY.search(text)):
            return SourceProtocolError(
                name,
                f"lists the key {sanitize(key[1], (), _SHOWN)!r}, which is not a path",
                hint="rename the object: empty names, `.`, `..` and control characters cannot be read",
            )
        return SourceProtocolError(name, "cannot be read: its key is not a path", file=file)
    if status is not None and status not in _TRANSIENT:
        used = f"the request was made with {credential}" if status == 400 else None
        return SourceProtocolError(name, answer, file=file, hint=used)
    if status is not None:
        unavailable = SourceUnavailableError(name, answer, file=file)
        unavailable.overloaded = status in _OVERLOADED
        return unavailable
    if begun:
        return BrokenOffError(name, "was cut off", file=file)
    if "rror sending request" in text or "onnect" in text:
        return SourceUnavailableError(name, "cannot be reached", file=file, hint="check its endpoint")
    if "ody" in text or "timed out" in text.lower() or "TimedOut" in text:
        return SourceUnavailableError(name, "broke off, or took too long", file=file)
    return SourceProtocolError(name, "answered in a way that its protocol does not have", file=file)


def changed(name: str, file: str) -> SourceChangedError:
    """Return the error for an object that is no longer the listed one."""
    return SourceChangedError(
        f"{name}: {file!r} changed after it was listed",
        hint="run again; a bucket with versions keeps what was listed readable",
    )
