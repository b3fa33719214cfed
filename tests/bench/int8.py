"""A trained network as INT8 in ONNX Runtime: AP and milliseconds beside its float form.

    python tests/bench/int8.py --model DIR --data DIR [--beside OTHER.onnx] [--split test]

`--model` is what `accuracy.py --save` wrote. The hybrid plan is chosen as in a run: ranges from
train, choices on val. Networks alone, without suppression, are timed in turn in one process.
"""

import argparse
import json
import tempfile
from pathlib import Path

import onnx
from photos import coco_folder, packed

from frontier.models.detector import load_detector
from frontier.quantization import qdq
from frontier.quantization.sensitivity import Judge
from frontier.quantization.study import Photos, study
from frontier.targets import target as make_target
from frontier.targets.measure import measure_latency
from frontier.targets.network import export_network
from pipelines.settings import Request, merge

ROOT = Path(__file__).parents[2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--data", type=coco_folder, required=True, help="a folder in COCO layout")
    parser.add_argument("--beside", type=Path, help="an ONNX detector to be timed with it")
    parser.add_argument("--split", default="test")
    parser.add_argument("--preset", default="laptop")
    given = parser.parse_args()

    params = merge(ROOT, Request(preset=given.preset)).params
    target, threads = make_target(params.targets["onnxruntime-cpu"]), params.run.threads
    detector = load_detector(given.model).module
    side = detector.architecture.image_side
    photos = Photos(*(packed(given.data, name, side) for name in ("train", "val")), side)
    with tempfile.TemporaryDirectory() as folder:
        paths = {name: Path(folder) / f"{name}.onnx" for name in ("float", "int8")}
        export_network(detector.deploy(), side, paths["float"])
        model, records = onnx.load(paths["float"]), Path(folder) / "records.jsonl"
        measure, rules = params.measure, params.evaluate
        found = study(model, photos, target, params.quantize, measure, rules, threads, records)
        left_out = set(found.plan.float_groups)
        quantized = qdq.quantize(model, found.ranges, left_out, target.int8_spelling)
        onnx.save(quantized, paths["int8"])
        if given.beside:
            paths["beside"] = given.beside
        timed = measure_latency(paths, target, params.measure, threads, records, "float")
    judge = Judge(packed(given.data, given.split, side), side, threads, params.evaluate)
    row = {
        "network": detector.architecture.code,
        "float_groups": sorted(left_out),
        "AP": {"float": judge.ap(model), "int8": judge.ap(quantized)},
        "ms": {name: latency.as_dict() for name, latency in timed.items()},
        "times_faster": {n: t.p50_ms / timed["int8"].p50_ms for n, t in timed.items()},
    }
    print(json.dumps(row, indent=1))


if __name__ == "__main__":
    main()
