"""Hardware in the loop: the architecture that meets the limits on the measured device."""

from pathlib import Path

from frontier.data.loading.packing import load_split
from frontier.files import read_json, write_json
from frontier.models.supernet import Supernet, load_supernet
from frontier.params import Measure, Run, Search, Section, Space, Target
from frontier.search.accuracy import Evaluator
from frontier.search.session import SearchSession
from frontier.search.taken import take
from frontier.stages import Inputs
from frontier.targets import target as target_of
from frontier.targets.hardware import fingerprint_id
from frontier.targets.measure import records_path
from frontier.training.loop import training_device


class Params(Section):
    run: Run
    space: Space
    search: Search
    measure: Measure
    architecture: str | None
    target: Target


def run(params: Params, inputs: Inputs, out: Path) -> dict[str, float]:
    pack = inputs.path("pack/main")
    device = training_device(params.run)
    supernet, _ = load_supernet(inputs.path("supernet"))
    hardware = fingerprint_id(read_json(inputs.path("hardware.json")))
    records = records_path(inputs.root, hardware, f"search@{inputs.target}")
    if params.architecture is not None:
        return _take(params, params.architecture, supernet, records, inputs, out)
    evaluator = Evaluator(
        supernet.to(device),
        load_split(pack, "train"),
        load_split(pack, "holdout"),
        params.search.recalibration_batches,
        inputs.work / "evaluations.jsonl",
        device,
    )
    session = SearchSession(
        evaluator,
        target_of(params.target),
        params.search,
        params.measure,
        params.run.threads,
        params.run.seed,
        records,
        inputs.work,
    )
    document = {"target": inputs.target, **session.run()}
    write_json(out / "search.json", document)
    chosen = next(row for row in document["timed"] if row["recommended"])
    return {
        "AP": chosen["AP"],
        "latency_p50_ms": chosen["latency_p50_ms"],
        "feasible": float(document["feasible"]),
        "evaluated": len(document["evaluated"]),
        "timed": len(document["timed"]),
    }


def _take(
    params: Params, name: str, supernet: Supernet, records: Path, inputs: Inputs, out: Path
) -> dict[str, float]:
    """Only time what the user chose, beside the baseline."""
    document = take(
        name,
        supernet,
        target_of(params.target),
        params.search,
        params.measure,
        params.run.threads,
        records,
        inputs.work,
    )
    write_json(out / "search.json", {"target": inputs.target, **document})
    return {"latency_p50_ms": document["timed"][-1]["latency_p50_ms"]}
