"""The number of threads that hash follows the cores, the quotas and the disk."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.content import workers
from tests.support.plant import plant


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "150000 100000\n"}, 2),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}, 1 << 16),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/cpu.max": "300000 100000\n"}, 3),
        (
            {
                "proc/self/cgroup": "0::/a/b\n",
                "sys/fs/cgroup/a/b/cpu.max": "800000 100000\n",
                "sys/fs/cgroup/a/cpu.max": "200000 100000\n",
            },
            2,
        ),
        ({"proc/self/cgroup": "0::/host/../path\n", "sys/fs/cgroup/cpu.max": "10000 100000\n"}, 1),
        (
            {
                "proc/self/cgroup": "5:cpu,cpuacct:/docker/1\n0::/\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "400000\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            4,
        ),
        (
            {
                "proc/self/cgroup": "5:cpu:/\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            1 << 16,
        ),
        ({"proc/self/cgroup": "7:memory:/\n"}, 1 << 16),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "garbage\n"}, 1 << 16),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "0 0\n"}, 1 << 16),
        ({"proc/self/cgroup": "no colons\n"}, 1 << 16),
        ({}, 1 << 16),
    ],
)
def test_a_quota_is_the_smallest_of_all_groups(tmp_path: Path, files: dict[str, str], cores: int) -> None:
    plant(tmp_path, {path: text.encode() for path, text in files.items()})
    assert workers._quota_cores(tmp_path) == cores


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs an affinity mask")
def test_the_affinity_mask_counts() -> None:
    """Set in a thread of its own, so that the other tests keep their cores."""
    found: list[int] = []

    def count() -> None:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        found.append(workers._allowed_cores())

    thread = threading.Thread(target=count)
    thread.start()
    thread.join()
    assert found == [1]


MOUNT = "30 1 {device} / /data rw,relatime shared:1 - {kind} {source} rw\n"


@pytest.mark.parametrize(
    ("device", "kind", "source", "flag", "parallel"),
    [
        ((8, 1), "ext4", "/dev/sda1", "1", False),
        ((8, 1), "ext4", "/dev/sda1", "0", True),
        ((254, 0), "ext4", "/dev/vda", "1", True),  # virtual
        ((0, 50), "nfs4", "server:/export", None, False),
        ((0, 51), "fuse.sshfs", "host:", None, False),
        ((0, 52), "tmpfs", "tmpfs", None, True),
        ((0, 53), "btrfs", "/dev/sda1", "1", False),
        ((0, 54), "cifs", "//server/share", None, False),
        ((9, 9), "ext4", "/dev/nothing", None, True),
    ],
)
def test_a_disk_that_seeks_and_a_network_are_read_in_one_place(
    tmp_path: Path, device: tuple[int, int], kind: str, source: str, flag: str | None, parallel: bool
) -> None:
    number = f"{device[0]}:{device[1]}"
    mount = MOUNT.format(device=number, kind=kind, source=source)
    plant(tmp_path, {"proc/self/mountinfo": mount.encode()})
    if flag is not None:
        name = source.rpartition("/")[2]
        disk = tmp_path / "sys/devices" / name.rstrip("1")
        plant(disk, {"queue/rotational": f"{flag}\n".encode()})
        partition = disk / name if name != disk.name else disk
        partition.mkdir(exist_ok=True)
        for link in (tmp_path / "sys/dev/block" / number, tmp_path / "sys/class/block" / name):
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(partition)
    assert workers._device_reads_in_parallel(tmp_path, *device) is parallel


def test_a_missing_place_is_read_by_all_cores(tmp_path: Path) -> None:
    assert workers.threads_for(tmp_path / "missing") == workers.cores()


def test_a_disk_read_in_one_place_has_two_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "cores", lambda: 8)
    monkeypatch.setattr(workers, "reads_in_parallel", lambda _: False)
    assert workers.threads_for(tmp_path) == 2


@pytest.mark.parametrize("threads", [1, 3])
def test_shared_work_is_done_once(threads: int) -> None:
    done: list[int] = []
    workers.share(done.append, range(100), threads=threads)
    assert sorted(done) == list(range(100))


def test_a_failure_ends_the_shared_work() -> None:
    done: list[int] = []

    def work(number: int) -> None:
        if number == 3:
            raise ValueError("broken")
        done.append(number)

    def forever() -> Iterator[int]:
        number = 0
        while True:
            yield number
            number += 1

    with pytest.raises(ValueError, match="broken"):
        workers.share(work, forever(), threads=3)


def test_overlapped_results_keep_their_order() -> None:
    assert list(workers.overlapped(str, range(50), threads=4, window=7)) == [*map(str, range(50))]
