"""The catalog of frontiers: what a search adds, what the command shows, what a run takes of it."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from frontier.errors import UsageError
from frontier.files import read_json
from frontier.models.architecture import Architecture, SearchSpace
from frontier.params import Params
from frontier.targets.hardware import fingerprint_id, hardware_fingerprint
from frontier.tracking import catalog
from frontier.tracking.catalog import Entry
from pipelines.graph import stale

SHARE = 4  # seeds are at most this part of a search's evaluations: the rest is to find better ones
POINT = (
    "architecture", "AP", "AP_interval", "latency_p50_ms", "latency_interval_ms",
    "latency_float_p50_ms", "gmac", "parameters", "stable", "recommended",
)  # fmt: skip
DEVICE = ("device", "machine", "cores", "flags", "gpus")


# ---------------------------------------------------------------- what a search adds


def keep_new(production: Any) -> None:
    """Put the frontier of each search that is up to date into the catalog, once.

    Raises:
        TransientFailure: MLflow failed.
    """
    root, params = production.root, production.params
    waiting = stale(production.graph) - {*production.outcomes}
    for target in params.searched:
        path = root / "data" / "search" / target / "search.json"
        if f"search@{target}" not in waiting and "taken" not in read_json(path):
            entry = make_entry(root, params, target)
            tags = {f"frontier.{name}": str(entry[name]) for name in ("target", "fingerprint")}
            tags["frontier.dataset"] = entry["dataset"]["name"]
            production.tracker.call(
                lambda client, run_id, entry=entry, tags=tags: catalog.keep(
                    client, run_id, entry, tags
                )
            )


def make_entry(root: Path, params: Params, target: str) -> Entry:
    """What is kept of one search: the device and runtime it holds for, the data, the points."""
    from frontier.tracking.store import lock_entries

    md5 = lock_entries(root, "ingest", "outs").get("data/ingest")
    search = read_json(root / "data" / "search" / target / "search.json")
    hardware = read_json(root / "data" / "hardware.json")
    name = read_json(root / "data" / "ingest" / "catalog" / "catalog.json")["name"]
    runtime = params.targets[target].kind.rpartition("-")[0]
    points = sorted(search["timed"], key=lambda point: point["latency_p50_ms"])
    return {
        "target": target,
        "kind": params.targets[target].kind,
        "runtime": {"name": runtime, "version": hardware["runtimes"].get(runtime)},
        "device": {name: hardware[name] for name in DEVICE},
        "fingerprint": fingerprint_id(hardware),
        "threads": params.run.threads,
        "dataset": {"name": name, "md5": md5 and md5.removesuffix(".dir")},
        "space": params.space.model_dump(mode="json"),
        "evaluations": len(search["evaluated"]),
        "baseline": _point(search["baseline"]),
        "frontier": [_point(point) for point in points if point["on_frontier"]],
    }


def _point(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in POINT} | {"size_bytes": row.get("size_bytes")}


# ---------------------------------------------------------------- what the command shows


def show(root: Path, console: Console, number: int | None) -> None:
    """All entries, or the frontier of one.

    Raises:
        UsageError: no such entry.
    """
    client = _client(root)
    if number is None:
        _print_all(catalog.entries(client), console)
    else:
        _print_one(number, catalog.entry(client, number), console)


def _client(root: Path) -> Any:
    from frontier.tracking.store import connect

    return connect(root)[0]


def _print_all(found: Mapping[int, Entry], console: Console) -> None:
    if not found:
        console.print("no frontier yet; each search of `frontier run` adds one", highlight=False)
        return
    table = Table("N", "device", "runtime", "dataset", "space", "points", "AP", "INT8 ms")
    for number, entry in found.items():
        table.add_row(
            str(number),
            _device(entry),
            _runtime(entry),
            entry["dataset"]["name"],
            _space(entry),
            str(len(entry["frontier"])),
            _range([point["AP"] for point in entry["frontier"]], 3),
            _range([point["latency_p50_ms"] for point in entry["frontier"]], 2),
        )
    console.print(table)
    console.print(
        "`frontier catalog show N` has the architectures; `frontier run --architecture N:ROW` "
        "trains one without a search",
        highlight=False,
    )


def _print_one(number: int, entry: Entry, console: Console) -> None:
    table = Table("row", "AP", "INT8 ms", "float ms", "GMAC", "size", "architecture")
    for row, point in enumerate(entry["frontier"], 1):
        marks = ("  <- recommended" if point["recommended"] else "") + (
            "" if point["stable"] else "  unstable"
        )
        table.add_row(
            str(row),
            f"{point['AP']:.3f}",
            f"{point['latency_p50_ms']:.2f}",
            f"{point['latency_float_p50_ms']:.2f}",
            f"{point['gmac']:.3f}",
            _size(point),
            f"{point['architecture']}{marks}",
        )
    data = entry["dataset"]
    for line in (
        f"entry {number}: {_device(entry)}, {_runtime(entry)}, {entry['threads']} threads",
        f"data {data['name']} ({data['md5'] or 'not hashed'}), {entry['evaluations']} evaluations",
        f"space {_space(entry)}; AP of shared weights on a held-out share of train",
    ):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    for column in table.columns:
        column.overflow = "fold"
    console.print(table)


def _size(point: Mapping[str, Any]) -> str:
    if point["size_bytes"]:
        return f"{point['size_bytes'] / 1e6:.2f} MB"
    return f"{point['parameters'] / 1e6:.2f} M param."


def _device(entry: Entry) -> str:
    return f"{entry['device']['device']}, {entry['device']['cores']} cores"


def _runtime(entry: Entry) -> str:
    return f"{entry['runtime']['name']} {entry['runtime']['version'] or ''}".strip()


def _space(entry: Entry) -> str:
    sides = entry["space"]["image_sizes"]
    return f"w{entry['space']['interface_width']:g}, {min(sides)} to {max(sides)} px"


def _range(values: list[float], digits: int) -> str:
    return f"{min(values):.{digits}f} to {max(values):.{digits}f}" if values else "-"


# ---------------------------------------------------------------- what a run takes of it


def named(root: Path, wanted: str) -> str:
    """The code that `--architecture` means: itself, or that of entry `N`, or of its row `N:ROW`.

    Raises:
        UsageError: no such entry or row.
    """
    match = re.fullmatch(r"(\d+)(?::(\d+))?", wanted)
    if not match:
        return wanted
    points = catalog.entry(_client(root), int(match[1]))["frontier"]
    if match[2] is None:
        return str(next((p for p in points if p["recommended"]), points[0])["architecture"])
    if not 1 <= int(match[2]) <= len(points):
        raise UsageError(f"--architecture {wanted}: entry {match[1]} has rows 1 to {len(points)}")
    return str(points[int(match[2]) - 1]["architecture"])


def seeds(root: Path, params: Params) -> list[str]:
    """Codes of the entries of this kind of device, runtime and space, newest entry first.

    The versions of driver and runtime may differ: every seed is evaluated and timed anew.

    Raises:
        UsageError: there is no such entry.
    """
    here = {name: hardware_fingerprint()[name] for name in DEVICE}
    kinds = {params.targets[name].kind for name in params.searched}
    space = params.space.model_dump(mode="json")
    fitting = [
        entry
        for entry in reversed(catalog.entries(_client(root)).values())
        if entry["device"] == here and entry["kind"] in kinds and entry["space"] == space
    ]
    codes = [point["architecture"] for entry in fitting for point in _best_first(entry)]
    if not codes:
        raise UsageError(
            "--from-catalog: no entry of this device, runtime and search space; see `frontier "
            "catalog`, and run without it: that search adds one"
        )
    return [*dict.fromkeys(codes)][: max(1, params.search.evaluations // SHARE)]


def _best_first(entry: Entry) -> list[dict[str, Any]]:
    """The recommended point, then the others, the most accurate first."""
    return sorted(entry["frontier"], key=lambda point: (not point["recommended"], -point["AP"]))


def check(params: Params) -> None:
    """Whether given architectures are of the search space, before anything is started.

    Raises:
        UsageError: one is not; says which settings would make it so.
    """
    given = dict.fromkeys(params.search.seeds, "search.seeds")
    if params.architecture is not None:
        given[params.architecture] = "architecture"
    space = SearchSpace(params.space.interface_width, tuple(params.space.image_sizes))
    for name, key in given.items():
        if not name.startswith("yolo_nas_"):
            _check_member(Architecture.parse(name), space, key, params)
        space.member(name, key)


def _check_member(code: Architecture, space: SearchSpace, key: str, params: Params) -> None:
    changes = []
    if code.interface_width != space.interface_width:
        changes.append(f"--set space.interface_width={code.interface_width:g}")
    if code.image_side not in space.image_sides:
        sides = sorted({*space.image_sides, code.image_side})[-5:]
        changes.append(f"--set 'space.image_sizes={sides}'")
    if code.image_side > params.pack.image_size:
        changes.append(f"--set pack.image_size={code.image_side}")
    if changes:
        raise UsageError(
            f"{key}: {code.code} is not in the search space of this params.yaml; add "
            f"{' '.join(changes)}, or take a preset that has it"
        )
