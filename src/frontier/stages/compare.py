"""What each searched device's frontier loses on the others, timed there."""

import itertools
from pathlib import Path
from typing import Any

from frontier import tracking
from frontier.data.loading.packing import load_meta
from frontier.files import read_json, write_json
from frontier.models.architecture import Architecture, SearchSpace
from frontier.params import Measure, Run, Search, Section, Space, Target
from frontier.search.devices import frontier_of, loss
from frontier.search.graphs import Graphs
from frontier.search.survey import Survey
from frontier.stages import Inputs
from frontier.targets import target as target_of
from frontier.targets.hardware import fingerprint_id
from frontier.targets.measure import records_path


class Params(Section):
    run: Run
    space: Space
    search: Search
    measure: Measure
    searched: list[str]
    targets: dict[str, Target]


def run(params: Params, inputs: Inputs, out: Path) -> dict[str, float]:
    searches = {name: _search(inputs, name) for name in params.searched}
    pairs = [
        {"home": home, "away": away, **_crossed(params, inputs, searches, home, away)}
        for home, away in itertools.permutations(params.searched, 2)
    ]
    status = "done" if pairs else "skipped"
    write_json(out / "compare.json", {"status": status, "pairs": pairs})
    tracking.log_params({"status": status})
    return {"pairs": len(pairs)}


def _search(inputs: Inputs, name: str) -> dict[str, Any]:
    found: dict[str, Any] = read_json(inputs.path(f"search/{name}/search.json"))
    return found


def _crossed(
    params: Params, inputs: Inputs, searches: dict[str, dict[str, Any]], home: str, away: str
) -> dict[str, Any]:
    """`home`'s frontier timed on `away`'s device, on the scale of the search made there."""
    own = searches[away]["baseline"]
    rows = frontier_of(searches[home])
    networks = [Architecture.parse(row["architecture"]) for row in (*rows, own)]
    latencies = _survey(params, inputs, away).time(networks, params.measure)
    scale = own["latency_p50_ms"] / latencies[own["architecture"]].p50_ms
    away_ms = {row["architecture"]: scale * latencies[row["architecture"]].p50_ms for row in rows}
    return loss(searches[home], searches[away], away_ms)


def _survey(params: Params, inputs: Inputs, away: str) -> Survey:
    space = SearchSpace(params.space.interface_width, tuple(params.space.image_sizes))
    classes = len(load_meta(inputs.path("pack/main")).classes)
    hardware = fingerprint_id(read_json(inputs.path("hardware.json")))
    return Survey(
        Graphs(space, classes, params.search.batch_size),
        target_of(params.targets[away]),
        params.measure,
        params.run.threads,
        records_path(inputs.root, hardware, f"compare@{away}"),
        inputs.work,
    )
