"""The one comment of ours on a pull request, found again by a marker that people do not see."""

from __future__ import annotations

from reconciler.errors import UsageError
from reconciler.forges.fields import Fields
from reconciler.forges.github.address import GitHubAddress
from reconciler.forges.github.graphql import graphql
from reconciler.forges.interface import BODY_LIMIT, CommentOutcome, marked
from reconciler.forges.rest import RestApi
from reconciler.net.errors import TransientError

_PAGES = 20  # of a hundred comments each
_WHO = "query { viewer { login } }"


class Comments:
    """The comments on pull requests of one repository. Every method raises RequestError."""

    def __init__(self, api: RestApi, address: GitHubAddress) -> None:
        self._api = api
        self._address = address
        self._login: str | None = None

    def upsert(self, number: int, marker: str, body: str, *, create: bool = True) -> CommentOutcome:
        """Make one comment of ours carry `marker` and `body`; without `create`, only if there is one.

        Raises UsageError for a body beyond BODY_LIMIT.
        """
        text = marked(marker, body)
        if len(text) > BODY_LIMIT:
            raise UsageError(f"a comment of {len(text)} characters is longer than {BODY_LIMIT}")
        found = self._find(number, marker)
        if found is None and not create:
            return CommentOutcome.NONE
        if found is None:
            found = self._create(number, marker, text)
            if found is None:
                return CommentOutcome.CREATED
        if found.text_or("", "body").replace("\r\n", "\n").strip() == text.strip():
            return CommentOutcome.UNCHANGED
        path = self._address.path("issues", "comments", str(found.number("id")))
        doing = f"updating our comment on #{number}"
        self._api.write("PATCH", path, {"body": text}, doing=doing, repeatable=True)
        return CommentOutcome.UPDATED

    def login(self) -> str:
        """Whom the token speaks for, whatever its sort; a bot's name may come without its ending [bot]."""
        if self._login is None:
            found = graphql(
                self._api, self._address, _WHO, {}, doing="asking whom the token speaks for", repeatable=True
            )
            self._login = found.text("viewer", "login")
        return self._login

    def _create(self, number: int, marker: str, text: str) -> Fields | None:
        """Post it; None when it is there now, or the comment that another job posted meanwhile."""
        path = self._address.path("issues", str(number), "comments")
        try:
            self._api.write("POST", path, {"body": text}, doing=f"commenting on #{number}", repeatable=False)
        except TransientError:
            found = self._find(number, marker)
            if found is None:
                raise
            return found
        return None

    def _find(self, number: int, marker: str) -> Fields | None:
        """Our comment.

        One by someone else is never ours, whatever it carries: they could rewrite it later.
        """
        me = self.login()
        start = marked(marker, "")
        for page in range(1, _PAGES + 1):
            path = self._address.path("issues", str(number), "comments")
            params = [("per_page", "100"), ("page", str(page))]
            comments = list(
                self._api.read(path, params=params, doing=f"reading the comments on #{number}").items()
            )
            for one in comments:
                one.number("id")  # an answer that is not a list of comments must not count as "none"
                author = one.text_or("", "user", "login")
                if author in (me, f"{me}[bot]") and one.text_or("", "body").startswith(start):
                    return one
            if len(comments) < 100:
                return None
        return None
