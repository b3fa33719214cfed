"""What the control groups of a container leave of its memory; the machine's own is more.

Reference: Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst of Linux.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath


def free_bytes(root: Path = Path("/")) -> int | None:
    """The least that this process's group, or one around it, leaves; None where none is limited.

    Pages of files that nobody uses count as used until they are wanted, so they are free.
    """
    left = [limit - used for limit, used in _limited(root)]
    return max(0, min(left)) if left else None


def _limited(root: Path) -> Iterator[tuple[int, int]]:
    """Limit and use, bytes, of each memory group with a limit."""
    for folder, names in _folders(root):
        with contextlib.suppress(FileNotFoundError, ValueError):  # `max` is no number: no limit
            limit, used = (int((folder / name).read_text()) for name in names[:2])
            yield limit, used - _field(folder / "memory.stat", names[2])


V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
V2 = ("memory.max", "memory.current", "inactive_file")


def _folders(root: Path) -> Iterator[tuple[Path, tuple[str, str, str]]]:
    """The folder of each memory group that this process is in, innermost first.

    Within a container the stated path may be that of the host: then only the topmost is there.
    """
    try:
        lines = (root / "proc" / "self" / "cgroup").read_text().splitlines()
    except FileNotFoundError:
        return
    mounted = root / "sys" / "fs" / "cgroup"
    for _, controllers, path in (line.split(":", 2) for line in lines):
        if controllers == "":
            top, names = mounted, V2
        elif "memory" in controllers.split(","):
            top, names = mounted / "memory", V1
        else:
            continue
        inner = PurePosixPath(path.lstrip("/"))
        yield from ((top / part, names) for part in (inner, *inner.parents))


def _field(stat: Path, name: str) -> int:
    fields = dict(line.split() for line in stat.read_text().splitlines())
    return int(fields.get(name, 0))
