"""Hardware in the loop: the architecture that meets the limits on the measured device."""

from pathlib import Path

from frontier.data.loading.packing import load_split
from frontier.files import read_json, write_json
from frontier.models.supernet import load_supernet
from frontier.params import Evaluate, Measure, Run, Search, Section, Space, Target
from frontier.search.accuracy import Evaluator
from frontier.search.session import SearchSession
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
    evaluate: Evaluate
    target: Target


def run(params: Params, inputs: Inputs, out: Path) -> dict[str, float]:
    pack = inputs.path("pack/main")
    device = training_device(params.run)
    supernet, _ = load_supernet(inputs.path("supernet"))
    evaluator = Evaluator(
        supernet.to(device),
        load_split(pack, "train"),
        load_split(pack, "holdout"),
        params.evaluate,
        params.search.recalibration_batches,
        inputs.work / "evaluations.jsonl",
        device,
    )
    hardware = fingerprint_id(read_json(inputs.path("hardware.json")))
    session = SearchSession(
        evaluator,
        target_of(params.target),
        params.search,
        params.measure,
        params.run.threads,
        params.run.seed,
        records_path(inputs.root, hardware, f"search@{inputs.target}"),
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
