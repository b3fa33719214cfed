"""The search against the YOLO-NAS family and against chance, on one dataset, row by row.

    python tests/bench/search.py --data DIR --out OUT [--seeds 0 1 2] [--set search.evaluations=100]

One supernet, made by the pipeline in a checkout of its own below OUT. For each seed a search, and
as many evaluations at random. Then the S, M and L shapes at the same interface width and the first
search's answer, each trained alone for the same seconds, scored on val, on test once, and timed in
INT8 in one process. `--set search.audit_networks=12` adds the audit of shared weights. Each row is
a line of OUT/rows.jsonl: a run that was stopped goes on behind the last. Rows and their cost are
printed first; OUT/table.md is the result.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import onnx
from accuracy import exported, scores, trained
from photos import coco_folder, packed

from frontier.data.loading.packing import load_split
from frontier.files import append_json_lines, read_json, read_json_lines
from frontier.models.architecture import Architecture, yolo_nas
from frontier.models.detector import Detector, cost, load_detector, save_detector
from frontier.params import Params, load_params
from frontier.quantization import qdq
from frontier.search.accuracy import Evaluator, Place
from frontier.search.audit import Auditor
from frontier.search.graphs import Graphs
from frontier.search.latency import Stopwatch
from frontier.search.session import SearchSession
from frontier.search.survey import Survey
from frontier.targets import target as make_target
from frontier.targets.measure import measure_latency
from frontier.targets.network import export_network
from frontier.training.loop import training_device
from tests.e2e import checkout

TARGET = "onnxruntime-cpu"
STAGES = ("ingest", "validate", "pack", "pretrain", "teacher", "pseudo_label", "supernet")
Row = dict[str, Any]


@dataclass(frozen=True)
class Bench:
    """One dataset, the recipe, and the folder where rows and networks are kept."""

    data: Path
    out: Path
    arguments: list[str]
    alone_s: float

    @property
    def root(self) -> Path:
        return self.out / "checkout"

    @cached_property
    def params(self) -> Params:
        return load_params(self.root / "params.yaml")

    def supernet(self) -> Row:
        """By the pipeline, stage by stage."""
        self.out.mkdir(parents=True, exist_ok=True)
        if not self.root.exists():
            checkout.copy(self.root)
        given = ["--data", str(self.data.resolve()), *self.arguments]
        for stage in STAGES:
            command = [sys.executable, "-m", "frontier.cli", "run", *given, "--only", stage]
            subprocess.run(command, cwd=self.root, env=checkout.environment(self.root), check=True)
            given = []
        return {"metrics": read_json(self.root / "data" / "metrics" / "supernet.json")}

    def search(self, seed: int) -> Row:
        """One search; the answer and both hypervolumes."""
        params, folder = self.params, self.out / f"search{seed}"
        folder.mkdir(exist_ok=True)
        data, measured = self.root / "data", self._stopwatch(folder)
        place = Place(
            data / "supernet",
            data / "pack" / "main",
            params.evaluate,
            params.search.recalibration_batches,
            str(training_device(params.run)),
        )
        evaluator = Evaluator(place, params.workers, folder / "evaluations.jsonl")
        wanted = params.search.model_copy(update={"compare_random": True})
        survey = None
        if wanted.estimator == "table":
            graphs = Graphs(evaluator.supernet.space, evaluator.supernet.num_classes, 1)
            records = self.out / "table.jsonl"
            own = (graphs, measured.target, params.measure, params.run.threads, records, folder)
            survey = Survey(*own)
        found = SearchSession(evaluator, wanted, measured, survey, seed).run()
        (folder / "search.json").write_text(json.dumps(found, indent=1))
        kept = (
            "recommended",
            "random",
            "estimator",
            "predictor",
            "feasible",
            "postmortem_residual",
        )
        return {name: found[name] for name in kept}

    def alone(self, name: str) -> Row:
        """One network, trained from random weights for `alone_s` seconds."""
        chosen = self.architecture(name)
        changes = {"budget_s": self.alone_s, "checkpoint_every": 10**9}
        train = self.params.train.model_copy(update=changes)
        params = self.params.model_copy(update={"train": train})
        splits = {s: packed(self.data, s, chosen.image_side) for s in ("train", "val", "test")}
        detector, took = trained(params, chosen, splits, 1)
        folder = self.out / "alone" / name
        folder.mkdir(parents=True, exist_ok=True)
        save_detector(detector, [{"name": str(i)} for i in range(detector.num_classes)], folder)
        parameters, gmac = cost(detector.deploy(), chosen.image_side)
        model = exported(detector)
        scored = {split: scores(model, splits[split], params) for split in ("val", "test")}
        of = {"architecture": chosen.code, "gmac": gmac, "parameters": parameters}
        return {**of, **took, **scored}

    def audit(self) -> Row:
        folder = self.out / "audit"
        folder.mkdir(exist_ok=True)
        own, pack = self.params, self.root / "data" / "pack" / "main"
        splits = (load_split(pack, name) for name in ("train", "holdout"))
        auditor = Auditor(own.search, own.train, own.run, own.evaluate, *splits, folder)
        found = auditor.audit(read_json(self.out / "search0" / "search.json"))
        assert found is not None
        return found

    def timing(self, names: list[str]) -> Row:
        """Every network trained alone, in INT8, in one process."""
        target, measure = make_target(self.params.targets[TARGET]), self.params.measure
        with tempfile.TemporaryDirectory() as folder:
            paths = {name: self._int8(name, Path(folder)) for name in names}
            records = Path(folder) / "records.jsonl"
            threads = self.params.run.threads
            timed = measure_latency(paths, target, measure, threads, records, names[0])
        return {name: latency.as_dict() for name, latency in timed.items()}

    def architecture(self, name: str) -> Architecture:
        """S, M or L at the largest side, or what a search recommended."""
        if name in ("s", "m", "l"):
            space = self.params.space
            return yolo_nas(name, space.interface_width, max(space.image_sizes))
        found = read_json(self.out / name.removeprefix("answer of ") / "search.json")
        return Architecture.parse(found["recommended"]["architecture"])

    def _stopwatch(self, folder: Path) -> Stopwatch:
        own = self.params
        target = make_target(own.targets[TARGET])
        records = folder / "records.jsonl"
        return Stopwatch(
            target, own.measure, own.run.threads, 1, memory=False, records=records, folder=folder
        )

    def _int8(self, name: str, folder: Path) -> Path:
        detector: Detector = load_detector(self.out / "alone" / name).module
        path = folder / f"{name}.onnx"
        export_network(detector.deploy(), detector.architecture.image_side, path)
        model = onnx.load(path)
        onnx.save(qdq.quantize(model, qdq.random_ranges(model), set(), "u8s8"), path)
        return path


def run(bench: Bench, seeds: list[int], *, audited: bool) -> None:
    """Every row that is not there yet."""
    journal = bench.out / "rows.jsonl"
    done = {row["row"]: row for row in read_json_lines(journal)}
    networks = ["s", "m", "l", *(f"answer of search{seed}" for seed in seeds[:1])]
    makers: dict[str, Any] = {"supernet": bench.supernet}
    makers |= {f"search{seed}": lambda seed=seed: bench.search(seed) for seed in seeds}
    makers |= {f"alone {name}": lambda name=name: bench.alone(name) for name in networks}
    makers |= {"timing": lambda: bench.timing(networks)}
    makers |= {"audit": bench.audit} if audited else {}
    for name, make in makers.items():
        if name in done:
            print(f"{name}: is there", flush=True)
            continue
        started = time.perf_counter()
        row = {"row": name, **make(), "row_s": round(time.perf_counter() - started)}
        append_json_lines(journal, [row])
        print(json.dumps(row), flush=True)
    rows = {row["row"]: row for row in read_json_lines(journal)}
    (bench.out / "table.md").write_text(table(rows, networks, seeds))
    print((bench.out / "table.md").read_text())


def table(rows: dict[str, Row], networks: list[str], seeds: list[int]) -> str:
    """The networks trained alone, then the searches beside chance."""
    lines = ["| network | val AP | test AP | INT8 ms | GMAC | steps |", "|---|---|---|---|---|---|"]
    for name in networks:
        row, latency = rows[f"alone {name}"], rows["timing"][name]
        stable = "" if latency["stable"] else " (unstable)"
        lines.append(
            f"| {name}: `{row['architecture']}` | {row['val']['AP']:.3f} | {row['test']['AP']:.3f} "
            f"| {latency['p50_ms']:.2f}{stable} | {row['gmac']:.2f} | {row['steps']} |"
        )
    lines += ["", "| seed | hypervolume | at random | ratio |", "|---|---|---|---|"]
    for seed in seeds:
        both = rows[f"search{seed}"]["random"]
        own, other = both["hypervolume"], both["random_hypervolume"]
        lines.append(f"| {seed} | {own:.3f} | {other:.3f} | {own / other:.3f} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=coco_folder, required=True, help="a folder in COCO layout")
    parser.add_argument("--out", type=Path, required=True, help="goes on with what is there")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--preset", default="laptop")
    parser.add_argument("--alone-s", type=float, default=1200, help="seconds of each lone training")
    parser.add_argument("--audit", action="store_true", help="needs search.audit_networks")
    parser.add_argument("--set", dest="changes", nargs="+", default=[], metavar="A.B=C")
    given = parser.parse_args()
    arguments = ["--preset", given.preset, "--target", TARGET]
    for change in ("search.evaluations=100", "pack.store=array", *given.changes):
        arguments += ["--set", change]
    bench = Bench(given.data, given.out, arguments, given.alone_s)
    minutes = (len(given.seeds) and 4) * given.alone_s / 60
    print(f"{4} networks alone: {minutes:.0f} min; supernet and {len(given.seeds)} searches beside")
    run(bench, given.seeds, audited=given.audit)


if __name__ == "__main__":
    main()
