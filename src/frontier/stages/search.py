"""Hardware in the loop: the architecture that meets the limits on the measured device."""

from pathlib import Path

from frontier.data.loading.packing import load_split
from frontier.files import read_json, write_json
from frontier.models.supernet import Supernet, load_supernet
from frontier.params import Measure, Run, Search, Section, Space, Target, Train
from frontier.search.accuracy import Evaluator
from frontier.search.audit import Auditor
from frontier.search.graphs import Graphs
from frontier.search.latency import Stopwatch
from frontier.search.session import SearchSession
from frontier.search.survey import Survey
from frontier.stages import Inputs
from frontier.targets import target as target_of
from frontier.targets.hardware import fingerprint_id
from frontier.targets.measure import records_path
from frontier.training.loop import training_device


class Params(Section):
    run: Run
    space: Space
    train: Train
    search: Search
    measure: Measure
    target: Target


def run(params: Params, inputs: Inputs, out: Path) -> dict[str, float]:
    pack = inputs.path("pack/main")
    device = training_device(params.run)
    supernet, _ = load_supernet(inputs.path("supernet"))
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
        params.search,
        _stopwatch(params, inputs),
        _survey(params, inputs, supernet),
        params.run.seed,
    )
    document = {"target": inputs.target, **session.run()}
    document["audit"] = _auditor(params, evaluator, inputs.work).audit(document)
    write_json(out / "search.json", document)
    chosen = next(row for row in document["timed"] if row["recommended"])
    return {
        "AP": chosen["AP"],
        "latency_p50_ms": chosen["latency_p50_ms"],
        "feasible": float(document["feasible"]),
        "evaluated": len(document["evaluated"]),
        "timed": len(document["timed"]),
    }


def _stopwatch(params: Params, inputs: Inputs) -> Stopwatch:
    return Stopwatch(
        target_of(params.target),
        params.measure,
        params.run.threads,
        params.search.batch_size,
        params.search.max_memory_mb is not None,
        _records(inputs, "search"),
        inputs.work,
    )


def _survey(params: Params, inputs: Inputs, supernet: Supernet) -> Survey | None:
    """How the latency table is made, where one is asked for."""
    if params.search.estimator == "whole":
        return None
    return Survey(
        Graphs(supernet.space, supernet.num_classes, params.search.batch_size),
        target_of(params.target),
        params.measure,
        params.run.threads,
        _records(inputs, "table"),
        inputs.work,
    )


def _auditor(params: Params, evaluator: Evaluator, folder: Path) -> Auditor:
    return Auditor(
        params.search, params.train, params.run, evaluator.train, evaluator.holdout, folder
    )


def _records(inputs: Inputs, kind: str) -> Path:
    hardware = fingerprint_id(read_json(inputs.path("hardware.json")))
    return records_path(inputs.root, hardware, f"{kind}@{inputs.target}")
