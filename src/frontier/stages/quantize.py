"""Quantize the student: calibrate, measure each group, keep float what INT8 would spoil."""

import shutil
from pathlib import Path
from typing import Any

import onnx

from frontier.data.loading.packing import load_split
from frontier.files import read_json, write_json
from frontier.models.detector import load_detector
from frontier.params import Evaluate, Measure, Quantize, Run, Section, Target
from frontier.quantization import qdq
from frontier.quantization.study import Photos, Study, study
from frontier.stages import Inputs
from frontier.targets import target as make_target
from frontier.targets.hardware import fingerprint_id
from frontier.targets.measure import Latency, measure_latency, records_path
from frontier.targets.network import export_network


class Params(Section):
    run: Run
    quantize: Quantize
    measure: Measure
    evaluate: Evaluate
    target: Target


def run(params: Params, inputs: Inputs, out: Path) -> dict[str, float]:
    target = make_target(params.target)
    student = load_detector(inputs.path(f"distill/{params.target.like}"))
    side = student.architecture.image_side
    path = export_network(student.module.deploy(), side, out / "float.onnx")
    model = onnx.load(path)
    hardware = fingerprint_id(read_json(inputs.path("hardware.json")))
    records = records_path(inputs.root, hardware, f"quantize@{inputs.target}")
    pack, threads = inputs.path("pack/main"), params.run.threads
    photos = Photos(load_split(pack, "train"), load_split(pack, "val"), side)
    measure, rules = params.measure, params.evaluate
    found = study(model, photos, target, params.quantize, measure, rules, threads, records)
    quantized = out / "quantized.onnx"
    left_out = set(found.plan.float_groups)
    onnx.save(qdq.quantize(model, found.ranges, left_out, target.int8_spelling), quantized)
    latency: dict[str, Latency] = {}
    if target.timeable:
        models = {"float": path, "int8": quantized}
        latency = measure_latency(models, target, measure, threads, records, "float")
    answer, reason = _answer(found, latency, params.quantize.max_ap_drop)
    if answer == "float":
        shutil.copyfile(path, quantized)
    scores = {
        "AP_float": found.ap_float,
        "AP_int8": found.plan.ap if answer == "hybrid" else found.ap_float,
        "AP_all_int8": found.ap_all,
    }
    result = {
        "target": inputs.target,
        "spelling": target.int8_spelling,
        "answer": answer,
        "reason": reason,
        "groups": _groups(model, found, answer),
        "images": found.images,
        "measured": _measured(found),
        "latency_float_p50_ms": latency["float"].p50_ms if latency else None,
        "latency_int8_p50_ms": latency["int8"].p50_ms if latency else None,
        "stable": all(value.stable for value in latency.values()) if latency else None,
        **scores,
    }
    write_json(out / "plan.json", result)
    return scores


def _answer(found: Study, latency: dict[str, Latency], budget: float) -> tuple[str, str]:
    """`hybrid` or `float`, and why."""
    if len(found.plan.float_groups) == len(found.sensitivity):
        return "float", f"no group can be INT8 within the AP budget {budget} and be faster for it"
    drop = found.ap_float - found.plan.ap
    if not latency:
        return "hybrid", f"AP drop {drop:.4f} within {budget}; not timed on this machine"
    ratio = latency["float"].p50_ms / latency["int8"].p50_ms
    if ratio <= 1:
        return "float", f"INT8 measured no faster than float here ({ratio:.2f}x)"
    return "hybrid", f"{ratio:.2f}x faster than float, AP drop {drop:.4f} within {budget}"


def _measured(found: Study) -> dict[str, Any]:
    """What was measured on how much; everything but the milliseconds ran in ONNX Runtime."""
    tried = found.plan.tried.items()
    return {
        "output_error": {"groups": len(found.sensitivity), "images": found.few},
        "ap_drop": {
            "groups": sum(group.ap_drop is not None for group in found.sensitivity.values()),
            "images": found.images,
        },
        "gain_ms": {"groups": len(found.gains or {})},
        "plans": [{"float_groups": count, "AP": ap, "images": found.images} for count, ap in tried],
    }


def _groups(model: onnx.ModelProto, found: Study, answer: str) -> list[dict[str, Any]]:
    """One row per group, for the report."""
    operators = {node.name: node.op_type for node in model.graph.node}
    left_out, gains = found.plan.float_groups, found.gains
    hybrid = "the whole plan is within the AP budget"
    otherwise = "the whole network stays float" if answer == "float" else hybrid
    return [
        {
            "name": name,
            "layers": sum(operators[node] == "Conv" for node in nodes),
            "precision": "float32" if answer == "float" or name in left_out else "int8",
            "ap_drop": found.sensitivity[name].ap_drop,
            "output_error": found.sensitivity[name].output_error,
            "gain_ms": gains[name].ms if gains else None,
            "gain_interval_ms": list(gains[name].interval_ms) if gains else None,
            "reason": left_out.get(name, otherwise),
        }
        for name, nodes in qdq.groups(model).items()
    ]
