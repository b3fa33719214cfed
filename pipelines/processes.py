"""Child processes that never outlive the one that started them."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO

# Asks the kernel to kill this process with its parent, then becomes the program.
LAUNCH = (
    "import ctypes, os, sys; ctypes.CDLL(None).prctl(1, 9); "
    "os.getppid() == int(sys.argv[1]) or os._exit(1); "
    "os.execv(sys.executable, [sys.executable, *sys.argv[2:]])"
)
GRACE_S = 5.0
Child = subprocess.Popen[bytes]


def spawn(
    arguments: list[str], *, cwd: Path, output: IO[bytes], environment: Mapping[str, str]
) -> Child:
    """Start `python *arguments` as the leader of its own process group.

    Ctrl-C reaches only the caller, which ends the group with `end`.
    """
    return subprocess.Popen(
        [sys.executable, "-c", LAUNCH, str(os.getpid()), *arguments],
        cwd=cwd,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def end(process: Child) -> None:
    """End a whole group, asked first and killed after a grace period; returns once it is gone."""
    if process.poll() is None:
        _signal_group(process, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_S)
    alive = _signal_group(process, signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + GRACE_S
    while alive and time.monotonic() < deadline:
        time.sleep(0.02)
        alive = _signal_group(process, signal.SIGKILL)


def _signal_group(process: Child, number: int) -> bool:
    """Whether anything of the group was there to take the signal."""
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        return False
    return True


def command_line(process: int | str) -> list[str]:
    """The arguments of a running process; empty once it has ended."""
    try:
        return Path(f"/proc/{process}/cmdline").read_text().rstrip("\0").split("\0")
    except OSError:
        return []


def free_port(wanted: int) -> int:
    """`wanted` if nothing listens there, else any free port of the loopback."""
    for port in (wanted, 0):
        with contextlib.closing(socket.socket()) as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
    raise AssertionError("the system gives port 0 always")
