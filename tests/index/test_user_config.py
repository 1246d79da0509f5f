"""The user's configuration is found below XDG_CONFIG_HOME or the home directory, wherever that is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from reconciler.download.limits import DownloadLimits
from reconciler.errors import InvalidIndexError
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


@pytest.mark.parametrize(
    ("text", "limits"),
    [
        ("connections: 16", DownloadLimits(connections=16)),
        ("max_rate: 20M", DownloadLimits(max_rate=20 << 20)),
        ("max_rate: 5000", DownloadLimits(max_rate=5000)),
        ("{connections: 1, max_rate: 1g}", DownloadLimits(1, 1 << 30)),
        ("receipts: true", DownloadLimits()),
    ],
)
def test_limits_of_downloads_are_read(text: str, limits: DownloadLimits, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(text)
    assert load_config(tmp_path / "config.yaml").limits == limits


@pytest.mark.parametrize(
    "text", ["connections: 0", "connections: 257", "connections: many", "max_rate: fast", "max_rate: -1"]
)
def test_limits_that_are_none_are_errors(text: str, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(InvalidIndexError, match=text.partition(":")[0]):
        load_config(tmp_path / "config.yaml")
