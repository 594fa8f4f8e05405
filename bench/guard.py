"""Ends servers that outlive their parent: `python bench/guard.py PID DIRECTORY`, with a pipe of the parent's as its input.

A parent that is killed cannot tidy up, but its end of the pipe closes. Then the process with its children is
killed, and the directory removed. Only the standard library, and none of the project: it must begin at once.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
from pathlib import Path


def born(pid: int) -> str:
    """When a process was started; empty if there is none. A pid alone may be somebody else's by now."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return ""


def family(pid: int) -> list[int]:
    """The process and its children, as far as the system tells: PostgreSQL has one for each connection."""
    pids = [pid]
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # ended since it was listed
            if entry.read_text().rpartition(")")[2].split()[1] == str(pid):
                pids.append(int(entry.parent.name))
    return pids


def signal_family(pid: int, sign: signal.Signals) -> list[int]:
    """Send the process and its children a signal, the process first. Returns which they were."""
    pids = family(pid)
    for one in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(one, sign)
    return pids


def main() -> None:
    """Wait for the parent's end."""
    pid, directory = int(sys.argv[1]), sys.argv[2]
    mine = born(pid)
    sys.stdin.read()
    if mine and mine == born(pid):
        signal_family(pid, signal.SIGKILL)
    shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
