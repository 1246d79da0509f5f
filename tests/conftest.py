"""Fixtures for every test, such as a clean environment, and the report about real peers.

A test that needs a real peer has its marker. If the peer is not installed, the test is skipped, and the
end of the run reports it. `REQUIRE=ipfs,node make test` turns such skips into failures.
"""

from __future__ import annotations

import gc
import importlib
import os
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from tests.support.peer_report import PeerReport
from tests.support.scratch import scratch_copy

#: set by a shell, git hook or forge runner; each of these changes the behaviour of commands
LEAKY_PREFIXES = (
    "GIT_",
    "GITHUB_",
    "GITLAB_",
    "GITEA_",
    "IPFS_",
    "KUBO_",
    "CLUSTER_",
    "RECONCILE",
    "STORACHA",
)
#: without this, every command that a test starts would compile all its modules again
SLOW = ("PYTHONDONTWRITEBYTECODE",)
LEAKY = ("CI", "NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES", "PAGER", "EDITOR")

GIT_CONFIG = """\
[user]
    name = Test
    email = test@example.com
[init]
    defaultBranch = main
[commit]
    gpgSign = false
"""


def pytest_configure(config: pytest.Config) -> None:
    """Report on real peers; REQUIRE names those that may not be skipped. Examples have no deadline."""
    gc.disable()  # until the tests are collected: what that makes is kept, and looking for garbage doubles it
    names = frozenset(filter(None, os.environ.get("REQUIRE", "").replace(",", " ").split()))
    config.pluginmanager.register(PeerReport(names), "peer-report")
    if config.pluginmanager.hasplugin("hypothesispytest"):
        from hypothesis import HealthCheck, settings

        # the duration of an example depends on the load of the machine
        examples = 50 if config.getoption("markexpr") == "not slow" else 100
        settings.register_profile(
            "any machine", deadline=None, max_examples=examples, suppress_health_check=[HealthCheck.too_slow]
        )
        settings.load_profile("any machine")


def pytest_collection(session: pytest.Session) -> None:
    """In a worker of a run of all tests, import its share of them first.

    In a fresh clone every worker would otherwise rewrite the assertions of every module, in the same order.
    """
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    if not worker or session.config.args != session.config.getini("testpaths"):
        return
    files = sorted(Path(__file__).parent.rglob("test_*.py"))
    for file in files[int(worker.removeprefix("gw")) :: int(os.environ["PYTEST_XDIST_WORKER_COUNT"])]:
        name = file.relative_to(session.config.rootpath).with_suffix("")
        with suppress(Exception, pytest.skip.Exception):  # pytest reports it
            importlib.import_module(".".join(name.parts))


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """Look for garbage again, but not among what was collected."""
    gc.freeze()
    gc.enable()


@pytest.fixture(autouse=True, scope="session")
def clean_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Set a neutral environment: git has an identity, and nothing of the caller's set-up is visible."""
    git_config = tmp_path_factory.mktemp("git") / "config"
    git_config.write_text(GIT_CONFIG)
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith(LEAKY_PREFIXES) or name in (*LEAKY, *SLOW):
                patch.delenv(name)
        patch.setenv("GIT_CONFIG_GLOBAL", str(git_config))
        patch.setenv("GIT_CONFIG_NOSYSTEM", "1")
        patch.setenv("RECONCILE_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))
        yield


@pytest.fixture(autouse=True, scope="session")
def short_pauses() -> Iterator[None]:
    """Let clients with the default retry policy retry without long pauses."""
    from reconciler.net.retry import RetryPolicy

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("reconciler.net.client.RetryPolicy", partial(RetryPolicy, base=0.01))
        patch.setattr("reconciler.sources.ranges.RetryPolicy", partial(RetryPolicy, base=0.01))
        yield


@pytest.fixture
def scratch_clone(tmp_path: Path) -> Path:
    """Return a copy of this project's present files, in a new git repository with one commit."""
    return scratch_copy(tmp_path / "clone", commit=True)
