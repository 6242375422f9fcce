"""How many threads the kernels use."""

import math
import os
from pathlib import Path

from dfpkeras import _native
from dfpkeras.runtime.argument_checks import check_integer

VARIABLE = "DFPKERAS_NUM_THREADS"
MAX_THREADS = 256

_reason = ""


def set_num_threads(num_threads: int) -> None:
    """Sets the number of threads of every kernel call from now on. Results do not depend on it.

    Args:
        num_threads: an integer from 1 to 256.

    Raises:
        TypeError: if it is not an integer.
        ValueError: if it is out of range.
    """
    _set(_in_range("num_threads", check_integer("num_threads", num_threads)), "set_num_threads")


def get_num_threads() -> int:
    """The number of threads that kernels use."""
    return _native.get_num_threads()


def reason():
    """Where the number of threads comes from, for `dfpkeras info`."""
    return _reason


def set_default():
    """Uses DFPKERAS_NUM_THREADS, or else what CPU affinity and the container's quota allow."""
    text = os.environ.get(VARIABLE, "")
    if text:
        try:
            number = int(text)
        except ValueError:
            raise ValueError(f"{VARIABLE}: expected an integer, got {text!r}") from None
        _set(_in_range(VARIABLE, number), VARIABLE)
        return
    cpus, quota = count_cpus(), _cgroup_quota()
    if quota is not None and math.ceil(quota) < cpus:
        _set(max(1, math.ceil(quota)), f"the container's quota of {quota:g} CPUs")
    else:
        _set(min(cpus, MAX_THREADS), f"CPU affinity ({cpus})")


def _set(number, why):
    global _reason
    _native.set_num_threads(number)
    _reason = why


def _in_range(name, number):
    if not 1 <= number <= MAX_THREADS:
        raise ValueError(f"{name}: expected 1 to {MAX_THREADS} threads, got {number}")
    return number


def count_cpus():
    """Returns how many CPUs this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _cgroup_quota(proc=Path("/proc/self/cgroup"), root=Path("/sys/fs/cgroup")):
    """CPUs that the control groups of this process allow, or None without a limit."""
    try:
        lines = proc.read_text().splitlines()
    except OSError:
        return None
    limits = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            limits += _limits(root, path, _quota_v2)
        elif "cpu" in controllers.split(","):
            limits += _limits(root / controllers, path, _quota_v1)
            limits += _limits(root / "cpu", path, _quota_v1)
    return min(limits, default=None)


def _limits(root, path, read):
    """The limits along a path of control groups, each of which applies to all groups below it."""
    folder = root / path.lstrip("/")
    found = []
    for group in (folder, *folder.parents):
        quota = read(group)
        if quota is not None:
            found.append(quota)
        if group == root:
            break
    return found


def _quota_v2(group):
    try:
        quota, period = (group / "cpu.max").read_text().split()
    except (OSError, ValueError):
        return None
    return None if quota == "max" else int(quota) / int(period)


def _quota_v1(group):
    try:
        quota = int((group / "cpu.cfs_quota_us").read_text())
        period = int((group / "cpu.cfs_period_us").read_text())
    except (OSError, ValueError):
        return None
    return quota / period if quota > 0 and period > 0 else None
