"""Files that are either whole or absent: atomic writes, directory commits, manifests, locks."""

import contextlib
import fcntl
import hashlib
import itertools
import json
import os
import re
import shutil
import time
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from frontier.errors import Busy, TamperedError, UsageError

MANIFEST = "manifest.json"
HALF = re.compile("[\ud800-\udfff]")  # of a character that takes two of 16 bits


def project_root(start: Path | None = None) -> Path:
    """The nearest folder upwards that holds `dvc.yaml` and `params.yaml`.

    Raises:
        UsageError: no such folder.
    """
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        if (folder / "dvc.yaml").is_file() and (folder / "params.yaml").is_file():
            return folder
    raise UsageError(
        f"{here}: not inside a Frontier checkout (no dvc.yaml here or above); cd into one first"
    )


def sha256(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fsync_directory(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def atomic_write(path: Path, content: bytes | str) -> None:
    """Replace `path` with `content`: a reader sees the old bytes or the new, never a mixture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        fsync_directory(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Atomic, sorted, indented: equal values give equal bytes."""
    atomic_write(path, json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    return json.loads(path.read_text())


def append_json_lines(path: Path, rows: Iterable[Any]) -> None:
    """Write one line a row behind those that are there."""
    lines = [json.dumps(row) + "\n" for row in rows]
    with path.open("a") as file:
        file.write("".join(lines))


def read_json_lines(path: Path) -> list[Any]:
    """All rows; a torn last line, of a killed writer, is cut off: it would swallow the next one."""
    if not path.is_file():
        return []
    lines = path.read_text().splitlines(keepends=True)
    if lines and not lines[-1].endswith("\n"):
        path.write_text("".join(lines[:-1]))
        del lines[-1]
    return [json.loads(line) for line in lines]


def write_manifest(folder: Path) -> None:
    """Write `manifest.json`: the SHA-256 and size of every other file below `folder`."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p != folder / MANIFEST)
    entries = {
        p.relative_to(folder).as_posix(): {"sha256": sha256(p), "size_bytes": p.stat().st_size}
        for p in files
    }
    write_json(folder / MANIFEST, entries)


def verify_manifest(folder: Path, under: str = "") -> None:
    """Check every file below `folder / under` against the manifest of `folder`.

    Raises:
        TamperedError: a file is missing, altered or not listed; names it.
    """
    manifest = folder / MANIFEST
    if not manifest.is_file():
        raise TamperedError(f"{manifest}: missing; run the stage that makes {folder} again")
    entries = read_json(manifest)
    wanted = {name for name in entries if _is_under(name, under)}
    found = {
        p.relative_to(folder).as_posix()
        for p in (folder / under).rglob("*")
        if p.is_file() and p != manifest
    }
    if (folder / under).is_file():
        found = {under}
    for name in sorted(wanted | found):
        if name not in found:
            raise TamperedError(f"{folder / name}: listed in its manifest but missing")
        if name not in wanted:
            raise TamperedError(f"{folder / name}: not listed in {manifest}")
        if sha256(folder / name) != entries[name]["sha256"]:
            raise TamperedError(f"{folder / name}: altered since it was made (SHA-256 differs)")


def _is_under(name: str, under: str) -> bool:
    return not under or name == under or PurePosixPath(under) in PurePosixPath(name).parents


def commit_directory(temporary: Path, final: Path) -> None:
    """Move a finished folder to its place; what stood there before is replaced whole.

    The manifest is written last, so that a folder with a manifest is a complete one.
    """
    for path in temporary.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
    write_manifest(temporary)
    final.parent.mkdir(parents=True, exist_ok=True)
    if final.exists():
        shutil.rmtree(final)
    temporary.replace(final)
    fsync_directory(final.parent)


def safe_join(root: Path, name: str) -> Path:
    """`root / name`, refused unless it stays inside `root` once links are followed.

    Raises:
        UsageError: absolute, upward, NUL-carrying, link-escaping or unspellable names.
    """
    spelt = name.replace("\\", "/")
    parts = spelt.split("/")
    if not name or "\0" in name or spelt[0] == "/" or ".." in parts:
        raise UsageError(f"{name[:200]!r}: a file name must stay inside {root}")
    if HALF.search(name):  # JSON can spell them
        raise UsageError(f"{name[:200]!r}: half a character, which no file name holds")
    joined = root / spelt
    steps = itertools.accumulate((str(root), *parts), os.path.join)
    linked = any(map(os.path.islink, itertools.islice(steps, 1, None)))  # seldom
    if linked and not Path(os.path.realpath(joined)).is_relative_to(os.path.realpath(root)):
        raise UsageError(f"{name[:200]!r}: leads outside {root} through a link")
    return joined


@contextlib.contextmanager
def lock(path: Path, *, wait_s: float | None = None) -> Iterator[None]:
    """Hold an exclusive `flock` on `path`; the kernel frees it when the holder dies.

    Args:
        wait_s: seconds to wait for another holder; None waits for ever.

    Raises:
        Busy: still held after `wait_s`; names the holder's process id.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        started = time.monotonic()
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if wait_s is not None and time.monotonic() - started >= wait_s:
                    file.seek(0)
                    raise Busy(f"{path}: held by process {file.read().strip()}") from None
                time.sleep(0.1)
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
