"""The user's configuration is found below XDG_CONFIG_HOME or the home directory, wherever that is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from reconciler.index.user_config import UserConfig, config_file, load_config


@pytest.mark.parametrize(
    ("environ", "home", "path"),
    [
        ({"XDG_CONFIG_HOME": "/etc/xdg"}, "/anyone", "/etc/xdg/reconcile/config.yaml"),
        ({"XDG_CONFIG_HOME": ""}, "/anyone", "/anyone/.config/reconcile/config.yaml"),
        ({}, "/anyone", "/anyone/.config/reconcile/config.yaml"),
        ({"XDG_CONFIG_HOME": "/etc/xdg"}, None, "/etc/xdg/reconcile/config.yaml"),
        ({}, None, "/.config/reconcile/config.yaml"),
    ],
)
def test_the_file_is_found_with_and_without_a_home(
    environ: dict[str, str], home: str | None, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def find_home(_: type[Path]) -> Path:
        if home is None:
            raise RuntimeError("Could not determine home directory.")
        return Path(home)

    monkeypatch.setattr(Path, "home", classmethod(find_home))
    assert config_file(environ) == Path(path)


def test_a_home_that_may_not_be_entered_has_no_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stat(path: object, **_: object) -> os.stat_result:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "stat", stat)
    found = load_config(tmp_path / "config.yaml")
    monkeypatch.undo()
    assert found == UserConfig()
