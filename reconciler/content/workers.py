"""How many threads hash, and work that they share.

The number is that of the cores that this process may use: those of its affinity mask, and no more than the
CPU quotas of its control groups give, in every process and container alike. A disk that is slow at two
places at once (a rotating one, a network mount) is read by two threads close to each other, one of which
finds in the page cache what the other has read. Sources: sched(7), cgroups(7), proc(5), and the kernel's
`Documentation/admin-guide/cgroup-v2.rst` and `Documentation/ABI/stable/sysfs-block`.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from pathlib import Path
from threading import Event, Lock
from typing import TypeVar

_SYSTEM = Path("/")
_SEQUENTIAL = 2  # threads on a disk that is read in one place
_NETWORK = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "davfs"})
_NETWORK_FUSE = frozenset({"sshfs", "rclone", "s3fs", "davfs2", "gcsfuse", "goofys", "mount-s3", "blobfuse2"})
_VIRTUAL = ("vd", "xvd")  # disks of virtual machines, which call themselves rotational whatever they are on

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


@cache
def cores() -> int:
    """Return the number of cores that this process may use, at least 1; a fraction of one counts as one."""
    return max(1, min(_allowed_cores(), _quota_cores(_SYSTEM)))


def threads_for(place: Path | int) -> int:
    """Return how many threads should read and hash files at `place`, a path or the descriptor of a file."""
    return cores() if reads_in_parallel(place) else min(_SEQUENTIAL, cores())


def reads_in_parallel(place: Path | int) -> bool:
    """Return whether the disk at `place` is as fast when it is read in several places at once.

    True where this cannot be known.
    """
    try:
        device = os.stat(place).st_dev  # noqa: PTH116  a descriptor has no path
    except OSError:
        return True
    return _device_reads_in_parallel(_SYSTEM, os.major(device), os.minor(device))


def overlapped(
    work: Callable[[_Item], _Result], items: Iterable[_Item], *, threads: int, window: int
) -> Iterator[_Result]:
    """Yield `work(item)` for every item, in order, on `threads` threads with at most `window` in progress.

    `items` is iterated in the caller's thread, so that its own work (reading, hashing) overlaps as well. The
    first exception, of `items` or of `work`, ends it; items in progress are finished before it is raised.
    """
    with ThreadPoolExecutor(threads, thread_name_prefix="overlapped") as pool:
        in_progress: deque[Future[_Result]] = deque()
        for item in items:
            in_progress.append(pool.submit(work, item))
            if len(in_progress) >= window:
                yield in_progress.popleft().result()
        while in_progress:
            yield in_progress.popleft().result()


class SharedItems(Iterable[_Item]):
    """Items that several threads take turns to iterate over; `stop` ends every iteration before the next."""

    def __init__(self, items: Iterable[_Item]) -> None:
        self._items = iter(items)
        self._taking = Lock()
        self._stopped = Event()

    def __iter__(self) -> Iterator[_Item]:
        while True:
            with self._taking:
                if self._stopped.is_set():
                    return
                try:
                    item = next(self._items)
                except StopIteration:
                    return
            yield item

    def stop(self) -> None:
        """End every iteration."""
        self._stopped.set()


def share(work: Callable[[_Item], object], items: Iterable[_Item], *, threads: int) -> None:
    """Call `work` for every item, in any order, on `threads` threads.

    The first exception ends the work of all threads, and is raised when the items in progress are finished.
    """
    shared = SharedItems(items)

    def run() -> None:
        try:
            for item in shared:
                work(item)
        except BaseException:
            shared.stop()
            raise

    with ThreadPoolExecutor(threads, thread_name_prefix="share") as pool:
        try:
            for each in [pool.submit(run) for _ in range(threads)]:
                each.result()
        finally:
            shared.stop()


# --- cores


def _allowed_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _quota_cores(system: Path) -> int:
    """Return the smallest CPU quota of the control groups of this process, rounded up to cores."""
    most = 1 << 16
    for line in _lines(system / "proc/self/cgroup"):  # hierarchy:controllers:group
        _, separator, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        if not separator:
            continue
        if not controllers:
            quotas = _groups(system / "sys/fs/cgroup", group, _quota_2)
        elif "cpu" in controllers.split(","):
            quotas = _groups(system / "sys/fs/cgroup/cpu", group, _quota_1)
        else:
            continue
        most = min([most, *(-(-quota // period) for quota, period in quotas if quota > 0 and period > 0)])
    return most


def _groups(
    mounted: Path, group: str, quota: Callable[[Path], tuple[int, int] | None]
) -> Iterator[tuple[int, int]]:
    """Yield the quotas of a group and of those above it.

    In a container, `group` may be a path of its host: then the files of its own group are in `mounted`.
    """
    parts = [part for part in group.split("/") if part not in ("", "..")]
    for depth in range(len(parts), -1, -1):
        found = quota(mounted.joinpath(*parts[:depth]))
        if found is not None:
            yield found


def _quota_2(group: Path) -> tuple[int, int] | None:
    return _numbers(" ".join(_lines(group / "cpu.max")).split())


def _quota_1(group: Path) -> tuple[int, int] | None:
    names = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
    return _numbers([" ".join(_lines(group / name)) for name in names])


def _numbers(fields: list[str]) -> tuple[int, int] | None:
    """Return quota and period in microseconds; None when there is no quota."""
    if len(fields) != 2 or not all(field.isdecimal() for field in fields):  # "max", -1, or no file
        return None
    return int(fields[0]), int(fields[1])


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


# --- disks


@cache
def _device_reads_in_parallel(system: Path, major: int, minor: int) -> bool:
    kind, source = _mount(system, f"{major}:{minor}")
    if kind in _NETWORK or kind.removeprefix("fuse.") in _NETWORK_FUSE:
        return False
    device = system / f"sys/dev/block/{major}:{minor}"
    if not major and source.startswith("/dev/"):  # a file system over several devices, such as btrfs
        device = system / "sys/class/block" / source.rpartition("/")[2]
    try:
        device = device.resolve(strict=True)
    except OSError:
        return True
    for place in (device, device.parent):  # a partition has the queue of its disk
        flags = _lines(place / "queue/rotational")
        if flags:
            return flags[0] != "1" or place.name.startswith(_VIRTUAL)
    return True


def _mount(system: Path, device: str) -> tuple[str, str]:
    """Return the type and the source of a mount of `device`; "" for both when there is none."""
    for line in _lines(system / "proc/self/mountinfo"):
        before, _, after = line.partition(" - ")
        fields, rest = before.split(), after.split()
        if len(fields) > 2 and fields[2] == device and len(rest) > 1:
            return rest[0], rest[1]
    return "", ""
