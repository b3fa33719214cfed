"""Build the artifact of one target, check it against torch, time it where it will run."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frontier import tracking
from frontier.boxes import iou, resize
from frontier.data.packing import PackedSplit, load_split
from frontier.errors import StageFailed
from frontier.files import read_json, sha256, write_json, write_manifest
from frontier.metrics import Detections, coco_metrics
from frontier.models.detector import LoadedDetector, load_detector
from frontier.params import Evaluate, Export, Measure, Run, Section, Target
from frontier.runtime.predictor import Prediction, Predictor
from frontier.runtime.session import OnnxSession
from frontier.stages import Inputs
from frontier.targets import Target as RunnableTarget
from frontier.targets import target as make_target
from frontier.targets.hardware import fingerprint_id
from frontier.targets.measure import Latency, measure_latency, records_path
from frontier.targets.network import full_model, postprocess_model

SAME_BOX_IOU = 0.9
SEEN_SCORE = 0.05  # below it, detections are too many and too faint to pair


class Params(Section):
    run: Run
    export: Export
    measure: Measure
    evaluate: Evaluate
    target: Target


def run(params: Params, inputs: Inputs, out: Path) -> dict[str, float]:
    target = make_target(params.target)
    quantized = inputs.path(f"quantize/{inputs.target}")
    answer = read_json(quantized / "plan.json")["answer"]
    networks = {
        "bundle": (quantized / "quantized.onnx", "float32" if answer == "float" else "int8"),
        "float_bundle": (quantized / "float.onnx", "float32"),
    }
    folder = inputs.path(f"distill/{params.target.like}")
    student = load_detector(folder)
    sizes = {}
    for name, (network, precision) in networks.items():
        description = _describe(student, folder, params, target, precision)
        artifact = _bundle(network, out / name, params, target, description)
        sizes[name] = artifact.stat().st_size
    result: dict[str, Any] = {
        "status": "measured" if target.timeable else "built-not-run",
        "reason": target.unavailable(),
        "parity": None,
        "latency": None,
        "size_bytes": sizes["bundle"],
        "size_float_bytes": sizes["float_bundle"],
    }
    if target.timeable:
        pack = inputs.path("pack/main")
        result["parity"] = _check_parity(student, out / "float_bundle", pack, params)
        tracking.log_progress(1, 2, "the float model agrees with torch")
        hardware = fingerprint_id(read_json(inputs.path("hardware.json")))
        records = records_path(inputs.root, hardware)
        latency = _latency(quantized, out, target, params, records)
        result["latency"] = {name: value.as_dict() for name, value in latency.items()}
    write_json(out / "export.json", result)
    parity = {"parity_AP_gap": result["parity"]["AP_gap"]} if result["parity"] else {}
    return {"size_bytes": float(sizes["bundle"]), **parity}


def _describe(
    student: LoadedDetector, folder: Path, params: Params, target: RunnableTarget, precision: str
) -> dict[str, Any]:
    """The content of a bundle's detector.json: all that its user has to know."""
    return {
        "kind": params.target.kind,
        "classes": student.classes,
        "image_size": student.architecture.image_side,
        "architecture": student.architecture.code,
        "precision": precision,
        "score_threshold": params.evaluate.score_threshold,
        "iou_threshold": params.evaluate.iou_threshold,
        "max_detections": params.evaluate.max_detections,
        "input": (
            "image: uint8 [H, W, 3] RGB, any size"
            if target.includes_postprocess
            else "images_BCHW: float32 [1, 3, S, S] in 0..1, letterboxed with grey 114"
        ),
        "includes_postprocess": target.includes_postprocess,
        "provenance": {"student_sha256": sha256(folder / "model.safetensors")},
    }


def _bundle(
    network: Path, folder: Path, params: Params, target: RunnableTarget, description: dict[str, Any]
) -> Path:
    """A folder that can be handed to somebody: artifact, description, manifest."""
    folder.mkdir()
    if target.includes_postprocess:
        with tempfile.TemporaryDirectory() as temporary:
            model = Path(temporary) / "full.onnx"
            full_model(network, description["image_size"], params.evaluate, model)
            artifact = target.build(model, folder)
    else:
        artifact = target.build(network, folder)
    write_json(folder / "detector.json", description)
    write_manifest(folder)
    return artifact


def _check_parity(
    student: LoadedDetector, bundle: Path, pack: Path, params: Params
) -> dict[str, Any]:
    """The float bundle against torch, on the same letterboxed images.

    Raises:
        StageFailed: the AP differs by more than `export.max_ap_gap`.
    """
    validation = load_split(pack, "val")
    split = validation.subset(np.arange(min(params.export.parity_images, len(validation))))
    side = student.architecture.image_side
    squares = [resize(split.images[index], (side, side)) for index in range(len(split))]
    predictor = Predictor(bundle, params.run.threads)
    found = [predictor(square) for square in squares]
    expected = _torch_predictions(student, squares, params.evaluate)
    result = {
        "images": len(split),
        "AP_torch": _ap(split, side, expected),
        "AP_float": _ap(split, side, found),
        **_pairs(expected, found),
    }
    result["AP_gap"] = abs(result["AP_torch"] - result["AP_float"])
    if result["AP_gap"] > params.export.max_ap_gap:
        raise StageFailed(
            f"export: AP {result['AP_float']:.4f} in the runtime, {result['AP_torch']:.4f} in "
            f"torch: the gap is above export.max_ap_gap {params.export.max_ap_gap}"
        )
    return result


def _torch_predictions(
    student: LoadedDetector, squares: list[NDArray[np.uint8]], rules: Evaluate
) -> list[Prediction]:
    import torch

    network = student.module.deploy()
    keep_best = OnnxSession(postprocess_model(rules).SerializeToString(), threads=1)
    side = float(student.architecture.image_side)
    geometry = {"size": np.full(2, side), "scale": np.ones(2), "pad": np.zeros(2)}
    predictions = []
    for square in squares:
        image = torch.tensor(square).permute(2, 0, 1)[None].float() / 255
        with torch.no_grad():
            boxes, scores = network(image)
        feeds = {"network_boxes_xyxy": boxes.numpy(), "network_scores": scores.numpy(), **geometry}
        result = keep_best.run(feeds)
        predictions.append(Prediction(result["boxes_xyxy"], result["scores"], result["labels"]))
    return predictions


def _ap(split: PackedSplit, side: int, predictions: list[Prediction]) -> float:
    ratio = np.float32(split.image_size / side)
    rows = [(found.boxes_xyxy * ratio, found.scores, found.labels) for found in predictions]
    return coco_metrics(split, Detections.gather(split.image_ids.tolist(), rows))["AP"]


def _pairs(expected: list[Prediction], found: list[Prediction]) -> dict[str, float]:
    """The share of torch's visible detections found again, and how far those moved."""
    seen, paired, moved = 0, 0, 0.0
    for ours, theirs in zip(expected, found, strict=True):
        visible = ours.scores >= SEEN_SCORE
        seen += int(visible.sum())
        overlaps = iou(ours.boxes_xyxy[visible], theirs.boxes_xyxy)
        overlaps[ours.labels[visible][:, None] != theirs.labels[None]] = 0
        for row, box in zip(overlaps, ours.boxes_xyxy[visible], strict=True):
            if row.size and row.max() >= SAME_BOX_IOU:
                paired += 1
                moved = max(moved, float(np.abs(theirs.boxes_xyxy[row.argmax()] - box).max()))
    return {"matched_boxes": paired / seen if seen else 1.0, "max_box_px": moved}


def _latency(
    quantized: Path, out: Path, target: RunnableTarget, params: Params, records: Path
) -> dict[str, Latency]:
    """Networks in INT8 and float and both whole pipelines, in one interleaved measurement."""
    models = {"float": quantized / "float.onnx", "int8": quantized / "quantized.onnx"}
    models["pipeline"] = out / "bundle" / target.artifact
    models["pipeline_float"] = out / "float_bundle" / target.artifact
    return measure_latency(models, target, params.measure, params.run.threads, records, "float")
