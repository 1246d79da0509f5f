"""The errors that responses of GitLab and Gitea become; those of GitHub are in test_github_faults.py."""

from __future__ import annotations

import json

import pytest

from reconciler.forges.rest import ErrorClassifier
from reconciler.net.auth import Secret
from reconciler.net.errors import (
    AccessDeniedError,
    ConflictError,
    NotFoundError,
    RejectedError,
    RetryLaterError,
    TransientError,
    UnexpectedResponseError,
)
from reconciler.net.response import Response

TOKEN = "canary-of-a-token"
classify = ErrorClassifier("o/r", "grant write access")


def response(status: int, document: object, **headers: str) -> Response:
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    return Response("Gitea", status, fields, json.dumps(document).encode(), (Secret(TOKEN),))


@pytest.mark.parametrize(
    ("status", "error", "hint"),
    [
        (302, UnexpectedResponseError, "if 'o/r' was renamed or moved, use its new name"),
        (401, AccessDeniedError, "the token is wrong, expired or revoked: make a new one and set it again"),
        (403, AccessDeniedError, "grant write access"),
        (
            404,
            NotFoundError,
            "check the name 'o/r', and that the token may read it",
        ),
        (409, ConflictError, "run again"),
        (413, RejectedError, None),
        (422, RejectedError, None),
        (429, RetryLaterError, "run again later"),
        (500, TransientError, None),
        (503, TransientError, None),
    ],
)
def test_a_status_becomes_an_error_with_words_purpose_and_advice(status, error, hint):
    found = classify(response(status, {"message": f"no {TOKEN}"}), "labelling #1")
    assert type(found) is error
    assert (found.status, found.hint) == (status, hint)
    assert f"(HTTP {status}) while labelling #1: no " in found.message
    assert TOKEN not in found.message


@pytest.mark.parametrize("status", [429, 503])
def test_a_pause_that_a_forge_names_is_kept(status):
    found = classify(response(status, {}, retry_after="120"), "x")
    assert isinstance(found, RetryLaterError)
    assert (found.retry_after, found.hint) == (120, "run again in 2 min")


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"message": ["A", "B"]}, '["A", "B"]'),
        ({"message": {"title": ["is too long"]}}, '{"title": ["is too long"]}'),
        ({"error": "invalid_token"}, "invalid_token"),
        ({"error_description": "expired"}, "expired"),
        ("a text", '"a text"'),
    ],
)
def test_the_message_is_found_in_every_form(document, words):
    assert (
        classify(response(400, document), "x").message
        == f"Gitea: rejected the request (HTTP 400) while x: {words}"
    )


def test_an_archived_repository_and_a_long_text_have_their_own_advice():
    archived = classify(response(403, {"message": "Repository is archived."}), "x")
    assert archived.hint == "unarchive it in its settings"
    long = classify(response(422, {"message": "description is too long"}), "x")
    assert long.hint == "propose fewer versions at once with --only"
