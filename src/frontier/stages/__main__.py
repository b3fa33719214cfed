"""The one runner of all stages: `python -m frontier.stages NAME [TARGET]`.

Lock, read params, verify inputs against their manifests, run into a temporary folder, fsync,
rename, manifest last. DVC calls it; a stage that is killed goes on from `inputs.work`.
"""

import contextlib
import ctypes
import errno
import hashlib
import importlib
import json
import math
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from frontier import tracking
from frontier.errors import FrontierError, StageFailed, StorageError, UsageError
from frontier.files import (
    MANIFEST,
    commit_directory,
    lock,
    project_root,
    read_json,
    sha256,
    verify_manifest,
    write_json,
)
from frontier.params import Params, Section, load_params
from frontier.stages import Declaration, Inputs, declaration, declarations, flatten, is_within

PR_SET_PDEATHSIG = 1
LOCK_WAIT_S = 60.0
RANKS, RANK = (int(os.environ.get(name, "0")) for name in ("WORLD_SIZE", "RANK"))  # of torchrun
NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}


def main(arguments: list[str]) -> int:
    """Run one stage and return its exit code; a `FrontierError` is told in words, no traceback."""
    if not 1 <= len(arguments) <= 2:
        print("usage: python -m frontier.stages NAME [TARGET]", file=sys.stderr)
        return 2
    die_with_parent()
    try:
        root = project_root()
        os.chdir(root)
        declared = declaration(root, arguments[0], arguments[1] if arguments[1:] else None)
        with _ranks_joined(declared):
            if RANK > 0:
                _run_beside(root, declared)
                return 0
            with lock(root / ".work" / "locks" / f"{declared.key}.lock", wait_s=LOCK_WAIT_S):
                _run(root, declared)
    except (Exception, SystemExit) as error:
        return _report_failure(error)
    return 0


def die_with_parent() -> None:
    """Ask the kernel to kill this process with its parent, so that no writer is left behind.

    DVC may put a shell in between, so every process up to the flow is watched as well.
    """
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    flow = os.environ.get("FRONTIER_FLOW_PID")
    if flow:
        threading.Thread(target=_watch, args=(_ancestors(int(flow)),), daemon=True).start()


def _ancestors(last: int) -> list[str]:
    """The identity of each process from the parent up to `last`."""
    found: list[str] = []
    process = os.getppid()
    while process > 1 and (identity := tracking.process_identity(process)):
        found.append(identity)
        if process == last:
            return found
        process = tracking.parent_of(process)
    os.kill(os.getpid(), signal.SIGKILL)  # the flow is gone already
    return found


def _watch(processes: list[str]) -> None:
    while True:
        if any(tracking.process_identity(int(p.split(":")[0])) != p for p in processes):
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.5)


@contextlib.contextmanager
def _ranks_joined(declared: Declaration) -> Iterator[None]:
    """One rank per process that torchrun started; without it, nothing and no torch."""
    if RANKS < 2:
        yield
        return
    if declared.device != "training":
        raise UsageError(f"{declared.key}: no training; start it without torchrun")
    from frontier.training import ranks

    with ranks.joined():
        yield


def _wait_for_all_ranks() -> None:
    if RANKS > 1:
        from frontier.training import ranks

        ranks.wait_for_all()


def _run_beside(root: Path, declared: Declaration) -> None:
    """What ranks after the first do: train along, and leave record and outputs to the first."""
    os.environ.pop("FRONTIER_JOURNAL", None)
    module = _stage_module(declared.name)
    chosen = select_params(module.Params, load_params(root / "params.yaml"), declared.target)
    work = _work_folder(root, declared, chosen)
    _wait_for_all_ranks()
    with tempfile.TemporaryDirectory() as out:
        module.run(chosen, Inputs(root, declared.deps, declared.target, work), Path(out))


def _run(root: Path, declared: Declaration) -> None:
    started = time.monotonic()
    params = load_params(root / "params.yaml")
    module = _stage_module(declared.name)
    chosen = select_params(module.Params, params, declared.target)
    work = _work_folder(root, declared, chosen)
    work.mkdir(parents=True, exist_ok=True)
    run_id = _run_id(work, declared.key)
    tracking.log_params(flatten(chosen.model_dump(mode="json", by_alias=True)))
    partial = root / "data" / ".partial" / declared.key
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    tracking.map_path(partial, root / declared.out)
    _wait_for_all_ranks()
    try:
        metrics = module.run(chosen, Inputs(root, declared.deps, declared.target, work), partial)
    except BaseException:
        _keep_failed(root, declared, partial)
        raise
    commit_directory(partial, root / declared.out)
    _write_records(root, declared, metrics, run_id)
    _forget_other_states(work)
    tracking.log_event("end", metrics=_finite(metrics), seconds=time.monotonic() - started)


def _work_folder(root: Path, declared: Declaration, chosen: Section) -> Path:
    """Where the stage's resumable state lies, its inputs verified."""
    digests = verify_inputs(root, declared)
    return root / ".work" / declared.key / fingerprint(root, declared, chosen, digests)


def _stage_module(name: str) -> ModuleType:
    try:
        return importlib.import_module(f"frontier.stages.{name}")
    except ModuleNotFoundError as error:
        if error.name != f"frontier.stages.{name}":
            raise
        raise UsageError(f"src/frontier/stages/{name}.py: missing, but dvc.yaml names it") from None


def select_params(model: type[Section], params: Params, target: str | None) -> Section:
    """Fill a stage's bundle with the sections that its fields name."""
    by_key = {field.alias or name: name for name, field in Params.model_fields.items()}
    chosen: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        key = field.alias or name
        if key == "target":
            assert target is not None, "a stage with a `target` field is declared by foreach"
            chosen[key] = params.targets[target]
        else:
            chosen[key] = getattr(params, by_key[key])
    return model.model_validate(chosen)


def verify_inputs(root: Path, declared: Declaration) -> dict[str, str]:
    """Check every input against the manifest of the stage that made it.

    Returns:
        dependency -> digest of its content.

    Raises:
        TamperedError: names the file that is missing, altered or foreign.
        UsageError: a dependency does not exist.
    """
    outs = [other.out for other in declarations(root).values()]
    digests: dict[str, str] = {}
    for dep in declared.deps:
        if not (root / dep).exists():
            raise UsageError(f"{dep}: missing; run `frontier run`, which makes it")
        owners = [out for out in outs if is_within(dep, out) or is_within(out, dep)]
        if owners:
            parts = {out: _verified(root, out, dep) for out in owners}
            digests[dep] = _digest(parts)
        else:
            digests[dep] = _digest(_file_digests(root / dep))
    return digests


def _verified(root: Path, out: str, dep: str) -> dict[str, str]:
    """Name -> SHA-256 of the part of `out` that `dep` means."""
    under = "" if is_within(out, dep) else str(Path(dep).relative_to(out))
    verify_manifest(root / out, under)
    entries = read_json(root / out / MANIFEST)
    return {name: entries[name]["sha256"] for name in entries if is_within(name, under or ".")}


def _file_digests(path: Path) -> dict[str, str]:
    """Relative name -> SHA-256; of a code folder, its Python files."""
    if path.is_file():
        return {path.name: sha256(path)}
    return {str(p.relative_to(path)): sha256(p) for p in sorted(path.rglob("*.py"))}


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def fingerprint(root: Path, declared: Declaration, params: Section, digests: dict[str, str]) -> str:
    """Names the resumable state: another value, input or line of code gives another name."""
    return _digest([declared.key, params.model_dump(mode="json", by_alias=True), digests])[:16]


def _run_id(work: Path, key: str) -> str | None:
    """A resumed stage goes on in its own run; a fresh one in the run that the flow made for it."""
    record = work / "run.json"
    resumed = record.is_file()
    run_id = read_json(record)["run_id"] if resumed else None
    run_id = run_id or os.environ.get("FRONTIER_RUN_ID") or None
    write_json(record, {"run_id": run_id})
    tracking.log_event(
        "start", stage=key, run_id=run_id, resumed=resumed, fingerprint=work.name, pid=os.getpid()
    )
    return run_id


def _finite(metrics: dict[str, float]) -> dict[str, float]:
    """JSON knows no NaN; an undefined number (AP of an absent class) is left out."""
    return {name: float(value) for name, value in metrics.items() if math.isfinite(value)}


def _write_records(
    root: Path, declared: Declaration, metrics: dict[str, float], run_id: str | None
) -> None:
    for path in declared.metrics:
        write_json(root / path, _finite(metrics))
    write_json(root / declared.run_json, {"run_id": run_id, "stage": declared.key})


def _keep_failed(root: Path, declared: Declaration, partial: Path) -> None:
    """Keep what a failed stage wrote where a person can look at it, outside of `data/`."""
    kept = root / ".work" / declared.key / "failed"
    shutil.rmtree(kept, ignore_errors=True)
    partial.replace(kept)
    tracking.map_path(partial, kept)


def _forget_other_states(work: Path) -> None:
    (work / "run.json").unlink()
    for other in work.parent.iterdir():
        if other != work:
            shutil.rmtree(other)


def _report_failure(error: BaseException) -> int:
    """Tell the flow (through the journal) and the terminal what went wrong."""
    if isinstance(error, OSError) and error.errno in NO_SPACE:
        error = StorageError(
            f"{error.filename or 'disk'}: {os.strerror(error.errno)}; "
            f"free space on the disk that holds {Path.cwd()} and run the same command again"
        )
    if not isinstance(error, FrontierError):
        traceback.print_exception(error)
        error = StageFailed(f"{type(error).__name__}: {error}")
    kind = type(error).__name__
    tracking.log_event("failed", type=kind, exit_code=error.exit_code, message=str(error))
    print(str(error), file=sys.stderr)
    return error.exit_code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
