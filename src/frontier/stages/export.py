"""Build the artifact of one target, check it against torch, time it where it will run."""

import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from frontier import tracking
from frontier.boxes import Pixels
from frontier.data.loading.packing import PackedSplit, load_split
from frontier.errors import StageFailed, TargetUnavailable
from frontier.files import read_json, sha256, write_json, write_manifest
from frontier.models.detector import LoadedDetector, load_detector
from frontier.params import Evaluate, Export, Measure, Run, Section, Target
from frontier.runtime.predictor import Predictor
from frontier.stages import Inputs
from frontier.targets import Target as RunnableTarget
from frontier.targets import parity
from frontier.targets import target as make_target
from frontier.targets.hardware import fingerprint_id
from frontier.targets.measure import Latency, measure_latency, records_path
from frontier.targets.network import full_model

# One pixel in a thousand is rounded the other way by the graph's resize, which the strict budget
# would not forgive; a wrong letterbox costs a point of AP and is still caught.
RESIZED_AP_GAP = 0.01


class Params(Section):
    run: Run
    export: Export
    measure: Measure
    evaluate: Evaluate
    target: Target


def run(params: Params, inputs: Inputs, out: Path) -> dict[str, float]:
    target = make_target(params.target)
    student = load_detector(inputs.path(f"distill/{params.target.like}"))
    result: dict[str, Any] = dict.fromkeys(("parity", "latency", "timed_image"))
    try:
        result |= _build(student, params, inputs, out, target)
    except TargetUnavailable as error:
        # one target without its builder is no reason to lose the others
        for bundle in ("bundle", "float_bundle"):
            shutil.rmtree(out / bundle, ignore_errors=True)
        result |= {"status": "not-built", "reason": str(error)}
        write_json(out / "export.json", {**result, "size_bytes": None, "size_float_bytes": None})
        return {}
    if target.timeable:
        result |= _measure(student, params, inputs, out, target)
    result["status"] = "measured" if target.timeable else "built-not-run"
    result["reason"] = target.unavailable()
    write_json(out / "export.json", result)
    gap = {"parity_AP_gap": result["parity"]["AP_gap"]} if result["parity"] else {}
    return {"size_bytes": float(result["size_bytes"]), **gap}


def _build(
    student: LoadedDetector, params: Params, inputs: Inputs, out: Path, target: RunnableTarget
) -> dict[str, int]:
    """Both bundles; the bytes of their artifacts.

    Raises:
        TargetUnavailable: the builder is not installed, or builds nothing on this machine.
    """
    quantized = inputs.path(f"quantize/{inputs.target}")
    answer = read_json(quantized / "plan.json")["answer"]
    weights = sha256(inputs.path(f"distill/{params.target.like}") / "model.safetensors")
    sizes = {}
    for name, size, network, precision in (
        ("bundle", "size_bytes", "quantized.onnx", "float32" if answer == "float" else "int8"),
        ("float_bundle", "size_float_bytes", "float.onnx", "float32"),
    ):
        description = _describe(student, weights, params, target, precision)
        artifact = _bundle(quantized / network, out / name, params, target, description)
        sizes[size] = artifact.stat().st_size
    return sizes


def _measure(
    student: LoadedDetector, params: Params, inputs: Inputs, out: Path, target: RunnableTarget
) -> dict[str, Any]:
    """Parity with torch, and latency."""
    validation = load_split(inputs.path("pack/main"), "val")
    agreement = _check_parity(student, out / "float_bundle", validation, params)
    tracking.log_progress(1, 2, "the float model agrees with torch")
    hardware = fingerprint_id(read_json(inputs.path("hardware.json")))
    records = records_path(inputs.root, hardware, f"export@{inputs.target}")
    image, described = _typical_image(validation)
    quantized = inputs.path(f"quantize/{inputs.target}")
    latency = _latency(quantized, out, image, target, params, records)
    return {
        "parity": agreement,
        "latency": {name: value.as_dict() for name, value in latency.items()},
        "timed_image": described,
    }


def _describe(
    student: LoadedDetector, weights: str, params: Params, target: RunnableTarget, precision: str
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
        "vote_iou": params.evaluate.vote_iou,
        "candidates": params.evaluate.candidates,
        "max_detections": params.evaluate.max_detections,
        "input": (
            "image: uint8 [H, W, 3] RGB, any size"
            if target.includes_postprocess
            else "images_BCHW: float32 [1, 3, S, S] in 0..1, letterboxed with grey 114"
        ),
        "includes_postprocess": target.includes_postprocess,
        "provenance": {"student_sha256": weights},
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
    student: LoadedDetector, bundle: Path, validation: PackedSplit, params: Params
) -> dict[str, Any]:
    """The float bundle against torch, on images in their own proportions.

    Once at the network's size, where the letterbox only adds a border and both must agree to
    rounding; once larger, where it resizes too.

    Raises:
        StageFailed: the AP differs by more than `export.max_ap_gap`, or `RESIZED_AP_GAP`.
    """
    split = validation.subset(np.arange(min(params.export.parity_images, len(validation))))
    side = student.architecture.image_side
    expected = parity.torch_predictor(student.module.deploy(), side, params.evaluate)
    found = Predictor(bundle, params.run.threads)
    results = []
    for longest, limit in ((side, params.export.max_ap_gap), (side * 3 // 2, RESIZED_AP_GAP)):
        photos = [parity.photo(split, index, longest) for index in range(len(split))]
        result = {"longest_side": longest, **parity.compare(split, photos, expected, found)}
        if result["AP_gap"] > limit:
            raise StageFailed(
                f"export: AP {result['AP_float']:.4f} in the runtime, {result['AP_torch']:.4f} in "
                f"torch on images of {longest} px: the gap is above {limit} (export.max_ap_gap "
                f"is {params.export.max_ap_gap})"
            )
        results.append(result)
    return {**results[0], "resized": results[1]}


def _typical_image(validation: PackedSplit) -> tuple[Pixels, dict[str, Any]]:
    """The validation image with the median number of boxes, without its border; what it is."""
    boxes = np.diff(validation.offsets)
    index = int(np.argsort(boxes, kind="stable")[len(boxes) // 2])
    image = parity.photo(validation, index).image
    described = {
        "split": "val",
        "image_id": int(validation.image_ids[index]),
        "boxes": int(boxes[index]),
        "height": image.shape[0],
        "width": image.shape[1],
        "form": "as packed, its letterbox border cut off",
    }
    return image, described


def _latency(
    quantized: Path,
    out: Path,
    image: Pixels,
    target: RunnableTarget,
    params: Params,
    records: Path,
) -> dict[str, Latency]:
    """Networks in INT8 and float and both whole pipelines, in one interleaved measurement."""
    models = {"float": quantized / "float.onnx", "int8": quantized / "quantized.onnx"}
    pipelines = {"pipeline": "bundle", "pipeline_float": "float_bundle"}
    models |= {name: out / bundle / target.artifact for name, bundle in pipelines.items()}
    feeds = {name: {"image": image} for name in pipelines}
    threads = params.run.threads
    return measure_latency(models, target, params.measure, threads, records, "float", feeds)
