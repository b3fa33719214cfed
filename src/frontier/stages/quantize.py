"""Quantize the student: calibrate, measure each group, keep float what INT8 would spoil."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from frontier import tracking
from frontier.data.packing import load_split
from frontier.files import read_json, write_json
from frontier.models.detector import load_detector
from frontier.params import Measure, Quantize, Run, Section, Target
from frontier.quantization import qdq
from frontier.quantization.plan import Plan, choose
from frontier.quantization.sensitivity import (
    Gain,
    Judge,
    Sensitivity,
    measure_gains,
    measure_sensitivity,
    prepare,
)
from frontier.stages import Inputs
from frontier.targets import target as make_target
from frontier.targets.hardware import fingerprint_id
from frontier.targets.measure import Latency, measure_latency, records_path
from frontier.targets.network import export_network


class Params(Section):
    run: Run
    quantize: Quantize
    measure: Measure
    target: Target


def run(params: Params, inputs: Inputs, out: Path) -> dict[str, float]:
    target, threads = make_target(params.target), params.run.threads
    student = load_detector(inputs.path(f"distill/{params.target.like}"))
    side = student.architecture.image_side
    path = export_network(student.module.deploy(), side, out / "float.onnx")
    model = onnx.load(path)
    pack = inputs.path("pack/main")
    ranges = _calibrate(model, pack, side, params.quantize)
    validation = load_split(pack, "val")
    count = min(params.quantize.sensitivity_images, len(validation))
    judge = Judge(validation.subset(np.arange(count)), side, threads)
    spelling = target.int8_spelling

    def ap_of(float_groups: set[str]) -> float:
        return judge.ap(judge.outputs(qdq.quantize(model, ranges, float_groups, spelling)))

    ap_float, ap_all = ap_of(set(qdq.groups(model))), ap_of(set())
    tracking.log_progress(1, 4, f"AP float {ap_float:.3f}, all INT8 {ap_all:.3f}")
    sensitivity = measure_sensitivity(model, ranges, spelling, judge)
    tracking.log_progress(2, 4, "sensitivity of each group measured")
    hardware = fingerprint_id(read_json(inputs.path("hardware.json")))
    records = records_path(inputs.root, hardware)
    gains = None
    if target.timeable:
        gains = measure_gains(model, ranges, target, params.measure, threads, records)
    tracking.log_progress(3, 4, "milliseconds of each group measured")
    plan = choose(sensitivity, gains, ap_of, ap_float, params.quantize.max_ap_drop)
    quantized = out / "quantized.onnx"
    onnx.save(qdq.quantize(model, ranges, set(plan.float_groups), spelling), quantized)
    latency: dict[str, Latency] = {}
    if target.timeable:
        models = {"float": path, "int8": quantized}
        latency = measure_latency(models, target, params.measure, threads, records, "float")
    answer, reason = _answer(plan, latency, ap_float, params.quantize.max_ap_drop)
    if answer == "float":
        shutil.copyfile(path, quantized)
    ap_int8 = plan.ap if answer == "hybrid" else ap_float
    result = {
        "target": inputs.target,
        "spelling": spelling,
        "answer": answer,
        "reason": reason,
        "groups": _groups(model, sensitivity, gains, plan, answer),
        "images": count,
        "AP_float": ap_float,
        "AP_int8": ap_int8,
        "AP_all_int8": ap_all,
        "latency_float_p50_ms": latency["float"].p50_ms if latency else None,
        "latency_int8_p50_ms": latency["int8"].p50_ms if latency else None,
        "stable": all(value.stable for value in latency.values()) if latency else None,
    }
    write_json(out / "plan.json", result)
    return {"AP_float": ap_float, "AP_int8": ap_int8, "AP_all_int8": ap_all}


def _calibrate(model: onnx.ModelProto, pack: Path, side: int, params: Quantize) -> qdq.Ranges:
    train = load_split(pack, "train")
    count = min(params.calibration_images, len(train))
    spread = np.linspace(0, len(train) - 1, count).astype(int).tolist()
    return qdq.calibrate(model, prepare(train, spread, side), params.calibration_method)


def _answer(
    plan: Plan, latency: dict[str, Latency], ap_float: float, budget: float
) -> tuple[str, str]:
    """`hybrid` or `float`, and why."""
    drop = ap_float - plan.ap
    if drop > budget:
        return "float", f"no INT8 plan is within the AP budget: drop {drop:.4f} > {budget}"
    if not latency:
        return "hybrid", f"AP drop {drop:.4f} within {budget}; not timed on this machine"
    ratio = latency["float"].p50_ms / latency["int8"].p50_ms
    if ratio <= 1:
        return "float", f"INT8 measured no faster than float here ({ratio:.2f}x)"
    return "hybrid", f"{ratio:.2f}x faster than float, AP drop {drop:.4f} within {budget}"


def _groups(
    model: onnx.ModelProto,
    sensitivity: dict[str, Sensitivity],
    gains: dict[str, Gain] | None,
    plan: Plan,
    answer: str,
) -> list[dict[str, Any]]:
    operators = {node.name: node.op_type for node in model.graph.node}
    rows = []
    for name, nodes in qdq.groups(model).items():
        stays_float = answer == "float" or name in plan.float_groups
        rows.append(
            {
                "name": name,
                "layers": sum(operators[node] == "Conv" for node in nodes),
                "precision": "float32" if stays_float else "int8",
                "ap_drop": sensitivity[name].ap_drop,
                "output_error": sensitivity[name].output_error,
                "gain_ms": gains[name].ms if gains else None,
                "gain_interval_ms": list(gains[name].interval_ms) if gains else None,
                "reason": plan.float_groups.get(name, "within the AP budget"),
            }
        )
    return rows
