"""Hardware in the loop: the architecture that meets the limits on the measured device."""

from pathlib import Path

from frontier.data.loading.packing import load_split
from frontier.files import read_json, write_json
from frontier.models.supernet import Supernet, load_supernet
from frontier.params import Evaluate, Measure, Run, Search, Section, Space, Target, Train, Workers
from frontier.search.accuracy import Evaluator, Place
from frontier.search.audit import Auditor
from frontier.search.graphs import Graphs
from frontier.search.latency import Stopwatch
from frontier.search.session import SearchSession
from frontier.search.survey import Survey
from frontier.search.taken import take
from frontier.stages import Inputs
from frontier.targets import target as target_of
from frontier.targets.hardware import fingerprint_id
from frontier.targets.measure import records_path
from frontier.training.loop import training_device


class Params(Section):
    run: Run
    workers: Workers
    space: Space
    train: Train
    search: Search
    measure: Measure
    evaluate: Evaluate
    architecture: str | None
    target: Target


def run(params: Params, inputs: Inputs, out: Path) -> dict[str, float]:
    if params.architecture is not None:
        return _take(params, params.architecture, inputs, out)
    place = Place(
        inputs.path("supernet"),
        inputs.path("pack/main"),
        params.evaluate,
        params.search.recalibration_batches,
        str(training_device(params.run)),
    )
    evaluator = Evaluator(place, params.workers, inputs.work / "evaluations.jsonl")
    session = SearchSession(
        evaluator,
        params.search,
        _stopwatch(params, inputs),
        _survey(params, inputs, evaluator.supernet),
        params.run.seed,
    )
    document = {"target": inputs.target, **session.run()}
    document["audit"] = _auditor(params, inputs).audit(document)
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


def _auditor(params: Params, inputs: Inputs) -> Auditor:
    train, holdout = (load_split(inputs.path("pack/main"), name) for name in ("train", "holdout"))
    return Auditor(
        params.search, params.train, params.run, params.evaluate, train, holdout, inputs.work
    )


def _records(inputs: Inputs, kind: str) -> Path:
    hardware = fingerprint_id(read_json(inputs.path("hardware.json")))
    return records_path(inputs.root, hardware, f"{kind}@{inputs.target}")


def _take(params: Params, name: str, inputs: Inputs, out: Path) -> dict[str, float]:
    """Only time what the user chose, beside the baseline."""
    supernet, _ = load_supernet(inputs.path("supernet"))
    document = take(name, supernet, params.search, _stopwatch(params, inputs))
    write_json(out / "search.json", {"target": inputs.target, **document})
    return {"latency_p50_ms": document["timed"][-1]["latency_p50_ms"]}
