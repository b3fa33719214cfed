"""Test data: a small made-up set of stage outputs in the formats that the report reads.

Nothing here was measured. It exists so that the page can be tested in milliseconds, with the
awkward parts (absent classes, skipped stages, targets that were not run, hostile names) in reach.
"""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw

from frontier import files
from frontier.params import Params, load_params
from tests.catalogs import write_catalog, write_judged

PROJECT = Path(__file__).parent.parent
HOSTILE = "<script>alert('x')</script> & \"$co\"|[a](javascript:b)"
CLASSES = ["bolt", "nut", HOSTILE, "washer", "clip"]
SIDE = 240
BASE = "w0.25-r192-h0.5-q2x32-q3x64-q5x96-q2x192-q2x64-q2x48-q2x64-q2x64"


def write_run(root: Path, **variant: Any) -> Params:
    """Write a whole made-up run below `root / "data"` and return its parameters.

    Args:
        variant: `pseudo="skipped"`, `feasible=False`, `answer="float"`, `measured=False`,
            `max_latency_ms=...`, `min_ap=...`, `residual=0.0`, `unmeasured="not-built"`,
            `trained=False` (no history and no picture of batches), `curves=False`,
            `pictured=False` (no pictures on the dataset's card),
            `taken=True` (an architecture that was given, not searched).
    """
    data = root / "data"
    files.write_json(
        data / "hardware.json",
        {
            "device": "Test(R) CPU @ 2.60GHz",
            "cores": 2,
            "flags": ["avx512_vnni"],
            "runtimes": {"onnxruntime": "1.31.1"},
        },
    )
    truth = _catalog(root, data / "ingest")
    _verdict(data / "validate", pictured=variant.get("pictured", True))
    _trainings(data, trained=variant.get("trained", True))
    _audit(data / "pseudo_label", variant.get("pseudo", "done"))
    _search(data / "search" / "onnxruntime-cpu", variant)
    _compare(data / "compare", variant.get("pairs", []))
    measured = variant.get("measured", True)
    _target(data, "onnxruntime-cpu", variant, truth if measured else None)
    _target(data, "tensorrt", variant, None)
    values = load_params(PROJECT / "params.yaml").model_dump(mode="json", by_alias=True)
    for name in ("max_latency_ms", "min_ap"):
        values["search"][name] = variant.get(name)
    return Params.model_validate(values)


def _catalog(root: Path, folder: Path) -> pd.DataFrame:
    """Twelve test images of coloured boxes; image 7 is empty, image 8 has a crowd box."""
    generator = np.random.default_rng(0)
    image_root = folder / "synthetic" / "images"
    image_root.mkdir(parents=True)
    images, boxes = [], []
    for image_id in range(12):
        picture = Image.new("RGB", (SIDE + 80, SIDE), (96, 110, 104))
        pencil = ImageDraw.Draw(picture)
        for _ in range(0 if image_id == 7 else 1 + image_id % 5):
            x, y = generator.integers(4, SIDE - 90, 2).tolist()
            width, height = generator.integers(24, 84, 2).tolist()
            label = int(generator.integers(0, len(CLASSES) - 1))
            color = tuple(int(c) for c in generator.integers(60, 230, 3))
            pencil.rectangle((x, y, x + width, y + height), fill=color)
            boxes.append(_box(len(boxes), image_id, label, (x, y, width, height)))
        if image_id == 8:
            boxes.append(_box(len(boxes), image_id, 0, (180, 20, 120, 90), is_crowd=True))
        name = f"image {image_id}.png"
        picture.save(image_root / name)
        images.append(
            {
                "image_id": image_id,
                "split": "test",
                "file_name": name,
                **dict.fromkeys(("width", "declared_width"), SIDE + 80),
                **dict.fromkeys(("height", "declared_height"), SIDE),
                "sha256": files.sha256(image_root / name),
            }
        )
    images.append(images[0] | {"image_id": 900, "split": "val", "file_name": "<b>900.png"})
    info = {
        "name": "made-up workshop parts",
        "source": "synthetic",
        "image_root": image_root.relative_to(root).as_posix(),
        "unlabelled_root": None,
        "classes": [{"category_id": 10 + i, "name": name} for i, name in enumerate(CLASSES)],
    }
    write_catalog(folder / "catalog", info, images, boxes)
    write_judged(root / "data" / "validate" / "judged", images)
    files.write_manifest(folder)
    return pd.DataFrame(boxes)


def _box(
    box_id: int, image_id: int, label: int, xywh: tuple[float, ...], *, is_crowd: bool = False
) -> dict[str, Any]:
    return {
        "box_id": box_id,
        "image_id": image_id,
        "split": "test",
        "category_id": 10 + label,
        **{key: float(value) for key, value in zip("xywh", xywh, strict=True)},
        "is_crowd": is_crowd,
    }


def _verdict(folder: Path, *, pictured: bool) -> None:
    expectations = [
        ("boxes-inside-image", "warning", False, 3, 840, "3 boxes cross the border; clipped"),
        ("known-categories", "critical", True, 0, 840, "every box has a known category"),
        ("no-split-leakage", "critical", True, 0, 241, "no image stands in two splits"),
        ("look-alikes", "warning", True, 1, 241, "few images look alike"),
    ]
    counts = {"images_in": 241, "images_used": 240, "images_quarantined": 1}
    counts |= {"boxes_in": 845, "boxes_used": 835, "boxes_repaired": 3, "boxes_dropped": 7}
    counts["boxes_quarantined"] = 5
    names = ("code", "severity", "success", "unexpected", "total", "message")
    truncated = {"split": "train", "image_id": 3, "file_name": "<b>3.png", "code": "truncated"}
    splits = {"train": (180, 640), "val": (24, 90), "test": (36, 108)}
    files.write_json(
        folder / "judged" / "verdict.json",
        {
            "passed": True,
            "expectations": [
                {**dict(zip(names, row, strict=True)), "sample": []} for row in expectations
            ],
            "quarantined": [truncated],
            "counts": counts,
            "splits": {name: {"images": i, "boxes": b} for name, (i, b) in splits.items()},
            "classes": [
                {"name": name, "train": 128, "val": 18, "test": 0 if name == "clip" else 27}
                for name in CLASSES
            ],
        },
    )
    if pictured:
        (folder / "card").mkdir()
        for name in ("box_sizes.png", "offenders.jpg"):
            Image.new("RGB", (96, 96), (96, 110, 104)).save(folder / "card" / name)
    files.write_manifest(folder)


def _trainings(data: Path, *, trained: bool) -> None:
    """Histories of several shapes: without AP, without epochs, with losses of their own."""
    shapes = {
        "pretrain": (60, ["step", "loss", "lr"]),
        "teacher": (400, ["step", "epoch", "lr", "loss", "class_loss", "box_loss", "AP"]),
        "supernet": (250, ["step", "epoch", "lr", "loss", "class_loss", "subnet_loss"]),
        "distill/onnxruntime-cpu": (500, ["step", "lr", "loss", "taught_loss", "AP"]),
    }
    for name, (steps, columns) in shapes.items():
        folder = data / name
        folder.mkdir(parents=True)
        if trained:
            _history(folder / "history.csv", steps, columns)
    files.write_json(data / "teacher" / "quality.json", {"AP": 0.512, "AP50": 0.731})
    if trained:
        _suspects(data / "teacher")
        picture = data / "distill" / "onnxruntime-cpu" / "batches.jpg"
        Image.new("RGB", (96, 96), (96, 110, 104)).save(picture)
    for name in shapes:
        files.write_manifest(data / name)


def _suspects(folder: Path) -> None:
    """More than the page shows, one of another class with a hostile name."""
    row = {"split": "val", "kind": "missing", "class": "nut", "seen_as": None, "score": 0.01}
    swapped = {"kind": "wrong-class", "class": "bolt", "seen_as": HOSTILE, "score": 0.125}
    rows = [row | {"image_id": 900, "box_xyxy": [1.0, 2.0, 30.0, i]} for i in range(30)]
    files.write_json(folder / "suspects.json", [rows[0] | swapped, *rows[1:]])
    Image.new("RGB", (96, 96), (90, 90, 110)).save(folder / "suspects.jpg")


def _history(path: Path, steps: int, columns: list[str]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        for step in range(0, steps, 5):
            part = 1.5 * np.exp(-step / 120) + 0.1 * np.sin(step) + 0.6
            score = f"{0.4 * (1 - np.exp(-step / 150)):.4f}" if step % 50 == 0 else ""
            losses = {"class_loss": part, "box_loss": part * 1.2, "loss": 3 * part}
            losses |= {"subnet_loss": 4 * part, "taught_loss": 0.2 * part}
            writer.writerow({"step": step, "epoch": step // 25, "lr": 0.002, "AP": score, **losses})


def _audit(folder: Path, status: str) -> None:
    audit: dict[str, Any] = {"status": "skipped", "reason": "the dataset has no unlabelled images"}
    if status == "done":
        audit = {
            "status": "done",
            "reason": "wanted precision 0.8, measured on val",
            "thresholds": {name: None if name == "clip" else 0.41 for name in CLASSES},
            "precision": {
                name: [None, None, None] if name == "clip" else [0.86, 0.79, 0.92]
                for name in CLASSES
            },
            "recall": {
                name: [None, None, None] if name == "clip" else [0.61, 0.5, 0.71]
                for name in CLASSES
            },
            "counts": {
                "images_in": 320,
                "images_kept": 233,
                "images_refused": 2,
                "images_unsure": 85,
                "boxes_kept": 871,
                "boxes_ignored": 402,
                "boxes_accepted": 1,
                "boxes_struck": 3,
            },
        }
    files.write_json(folder / "audit.json", audit)
    files.write_manifest(folder)


def _search(folder: Path, variant: dict[str, Any]) -> None:
    feasible = variant.get("feasible", True)
    names = ["baseline", "smallest", "largest", *["found"] * 9]
    generator = np.random.default_rng(1)
    timed = []
    for index, name in enumerate(names):
        cost = {"baseline": 1.0, "smallest": 0.25, "largest": 2.6}.get(name, 0.3 + 0.2 * index)
        ap = float(0.42 * (1 - np.exp(-2.2 * cost)) + generator.normal(0, 0.012))
        ap -= 0.05 if name == "baseline" else 0.0
        latency, float_latency = 1.9 * cost + 0.25, 3.4 * cost + 0.3
        timed.append(
            {
                "name": name,
                "architecture": BASE
                if name == "baseline"
                else BASE.replace("q5x96", f"d{index}x96c"),
                "AP": ap,
                "AP_interval": [ap - 0.03, ap + 0.03],
                "latency_p50_ms": latency,
                "latency_interval_ms": [latency * 0.97, latency * 1.04],
                "latency_float_p50_ms": float_latency,
                "latency_float_interval_ms": [float_latency * 0.98, float_latency * 1.03],
                "size_mb": 0.7 * cost,
                "memory_mb": None,
                "reference_ms": [2.0, 2.0 + 0.01 * index, 2.1],
                "gmac": 0.2 * cost,
                "parameters": int(6e5 * cost),
                "stable": index != 7,
                "on_frontier": False,
                "recommended": feasible and index == 5,
            }
        )
    best = 0.0
    for point in sorted(timed, key=lambda p: p["latency_p50_ms"]):
        point["on_frontier"], best = point["AP"] > best, max(best, point["AP"])
    base, answer = timed[0], timed[5]
    gain = answer["latency_p50_ms"] - base["latency_p50_ms"]
    gain_ap = answer["AP"] - base["AP"]
    residual = variant.get("residual", 0.04)
    edits = [
        ("backbone stage 3: depth 5 -> 3", 0.9, 0.4),
        ("neck up 1: block QARepVGG -> depthwise", -0.3, 0.5),
        ("input side 192 -> 224", 0.4, 0.1),
    ]
    walk = [
        {
            "edit": edit,
            "delta_ms": share * (gain - residual),
            "delta_AP": share_ap * gain_ap,
            "text": f"{edit} changed the latency by {share * (gain - residual):+.2f} ms "
            f"and AP by {share_ap * gain_ap:+.3f}.",
        }
        for edit, share, share_ap in edits
    ]
    files.write_json(
        folder / "search.json",
        {
            "target": "onnxruntime-cpu",
            "evaluated": [
                {
                    "architecture": BASE,
                    "AP": 0.3,
                    "AP_before_recalibration": 0.01,
                    "gmac": 0.2,
                    "parameters": 600000,
                }
            ]
            * 28,
            "timed": timed,
            "recommended": {
                "architecture": answer["architecture"],
                "reason": "Fastest of the timed architectures whose lower AP bound is above the "
                "baseline's AP: 0.41 ms faster in INT8 at equal accuracy.",
            }
            if feasible
            else {
                "architecture": None,
                "reason": "No architecture runs in 0.10 ms; the nearest takes 0.73 ms.",
            },
            "baseline": base,
            "limits": {
                "max_latency_ms": variant.get("max_latency_ms"),
                "min_ap": variant.get("min_ap"),
                "max_size_mb": variant.get("max_size_mb"),
                "max_memory_mb": None,
            },
            "objective": "latency",
            "batch_size": 1,
            "strategy": "evolution",
            "seed": 0,
            "candidates": 20000,
            "audit": variant.get("audit_of_search"),
            "feasible": feasible,
            "postmortem": walk if feasible else [],
            "postmortem_residual": {"ms": residual, "AP": 0.0},
            "estimator": variant.get(
                "estimator", {"kind": "whole", "tau": 0.83, "mape": 0.06, "n": 12}
            ),
            "predictor": {"tau": 0.61 if feasible else None},
        },
    )
    if variant.get("taken"):
        _take(folder / "search.json")
    files.write_manifest(folder)


def _compare(folder: Path, pairs: list[dict[str, Any]]) -> None:
    status = "done" if pairs else "skipped"
    files.write_json(folder / "compare.json", {"status": status, "pairs": pairs})
    files.write_manifest(folder)


def _take(path: Path) -> None:
    """As `frontier.search.taken` writes it: two timed points, without accuracies."""
    found = files.read_json(path)
    unknown = {"AP": None, "AP_interval": None, "on_frontier": False}
    timed = [{**found["timed"][index], **unknown} for index in (0, 5)]
    for name in ("estimator", "predictor"):
        del found[name]
    taken = {"taken": True, "evaluated": [], "timed": timed, "baseline": timed[0]}
    reason = "Taken, not searched: `architecture` names it; 2.70 ms measured."
    taken["recommended"] = {"architecture": timed[1]["architecture"], "reason": reason}
    files.write_json(path, {**found, **taken, "postmortem": []})


def _target(data: Path, name: str, variant: dict[str, Any], truth: pd.DataFrame | None) -> None:
    run = truth is not None
    reason = None if run else "no NVIDIA GPU here: the engine was built ahead of time for a T4"
    groups = [
        ("backbone.stem", 1, "int8", 0.001, 0.02, 0.11, "cheap to quantize"),
        ("backbone.stage3", 7, "int8", None, 0.03, 0.52, "no measurable loss"),
        ("neck.up1", 4, "float32", 0.021, 0.19, 0.08, "loses more AP than the budget allows"),
        ("head.output", 6, "float32", None, None, None, "boxes and scores stay float by default"),
    ]
    keys = ("name", "layers", "precision", "ap_drop", "output_error", "gain_ms", "reason")
    files.write_json(
        data / "quantize" / name / "plan.json",
        {
            "target": name,
            "spelling": "u8s8" if run else "s8s8",
            "answer": variant.get("answer", "hybrid"),
            "reason": "Kept neck.up1 in float: alone it loses 0.021 AP and gains 0.08 ms.",
            "groups": [dict(zip(keys, row, strict=True)) for row in groups],
            "measured": {
                "output_error": {"groups": 3, "images": 16},
                "ap_drop": {"groups": 2, "images": 64},
                "gain_ms": {"groups": 3 if run else 0},
                "plans": [{"float_groups": 1, "AP": 0.441, "images": 64}],
            },
            "AP_float": 0.447,
            "AP_int8": 0.441,
            "AP_all_int8": 0.402,
            "latency_float_p50_ms": 3.6 if run else None,
            "latency_int8_p50_ms": 2.0 if run else None,
        },
    )
    files.write_manifest(data / "quantize" / name)
    status = "measured" if run else variant.get("unmeasured", "built-not-run")
    _export(data / "export" / name, status, reason)
    _evaluate(data / "evaluate" / name, truth, status, reason)
    if run and not variant.get("curves", True):
        (data / "evaluate" / name / "curves.json").unlink()


def _export(folder: Path, status: str, reason: str | None) -> None:
    latency = {
        precision: {"p50_ms": p50, "interval_ms": [p50 * 0.97, p50 * 1.05], "stable": True}
        for precision, p50 in (("int8", 2.02), ("float", 3.71), ("pipeline", 2.9))
    }
    parity = {"AP_torch": 0.4471, "AP_float": 0.4470, "AP_gap": 0.0001, "max_box_px": 0.012}
    parity["matched_boxes"] = 1.0
    if status == "not-built":
        files.write_json(folder / "export.json", {"status": status, "reason": reason})
        files.write_manifest(folder)
        return
    files.write_json(
        folder / "bundle" / "detector.json",
        {
            "classes": CLASSES,
            "image_size": 192,
            "score_threshold": 0.001,
            "precision": "hybrid INT8",
            "architecture": BASE,
            "provenance": {},
        },
    )
    export: dict[str, Any] = {"status": status, "reason": reason, "size_bytes": 1412345}
    if status == "measured":
        resized = {**parity, "AP_gap": 0.0004}
        export |= {"reason": "", "parity": {**parity, "resized": resized}, "latency": latency}
        export["timed_image"] = {"height": 144, "width": 192}
        export["size_float_bytes"] = 3912345
    files.write_json(folder / "export.json", export)
    files.write_manifest(folder)


def _evaluate(folder: Path, truth: pd.DataFrame | None, status: str, reason: str | None) -> None:
    folder.mkdir(parents=True)
    if truth is None:
        files.write_json(folder / "evaluate.json", {"status": status, "reason": reason})
        files.write_manifest(folder)
        return
    keys = ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large", "AR_1", "AR_10", "AR_100")
    scores: dict[str, Any] = {key: 0.441 + 0.02 * i for i, key in enumerate(keys)}
    scores["AP_large"] = None  # no large box in the test split
    per_class = [
        {"name": name, "AP": 0.3 + 0.07 * i, "AP_float": 0.31 + 0.07 * i, "boxes": 27}
        for i, name in enumerate(CLASSES[:-1])
    ]
    per_class.append({"name": CLASSES[-1], "AP": None, "AP_float": None, "boxes": 0})
    # NaN too may stand there: Python's own JSON writes and reads it
    per_class[1]["AP_float"] = float("nan")
    evaluate = {
        "status": "measured",
        "reason": "",
        "images": 12,
        **scores,
        "AP_interval": [0.415, 0.468],
        "float": {**scores, "AP": 0.447, "AP_interval": [0.42, 0.473]},
        "AP_gap": -0.006,
        "AP_gap_interval": [-0.012, 0.001],
        "per_class": per_class,
    }
    (folder / "evaluate.json").write_text(json.dumps(evaluate))
    files.write_json(folder / "curves.json", _curves())
    _detections(truth).to_parquet(folder / "detections.parquet")
    files.write_manifest(folder)


def _curves() -> dict[str, Any]:
    """The last class is absent from the test split."""
    recall = np.arange(101) / 100
    precision = [(0.9 - 0.1 * i) * (1 - recall**3) for i in range(len(CLASSES) - 1)]
    confusion = np.diag([9, 7, 5, 6, 0, 0])
    confusion[0, 2], confusion[1, -1], confusion[-1, 3] = 2, 4, 3
    return {
        "classes": CLASSES,
        "recall": recall.tolist(),
        "precision": [*(row.tolist() for row in precision), None],
        "precision_mean": np.mean(precision, axis=0).tolist(),
        "boxes_per_size": {"small": 4, "medium": 29, "large": 0},
        "score_threshold": 0.45,
        "confusion": confusion.tolist(),
    }


def _detections(truth: pd.DataFrame) -> pd.DataFrame:
    """Most truth boxes, a little off; every fourth missed; some low-scored nonsense."""
    generator = np.random.default_rng(2)
    rows = []
    for index, box in enumerate(truth.itertuples()):
        if index % 4 != 3:
            x, y = box.x + generator.normal(0, 2), box.y + generator.normal(0, 2)
            corners = (x, y, x + box.w, y + box.h)
            rows.append(
                (box.image_id, *corners, 0.5 + 0.4 * generator.random(), box.category_id - 10)
            )
        rows.append((box.image_id, 5.0, 5.0, 60.0, 50.0, 0.3 * generator.random(), 1))
    columns = "image_id x1 y1 x2 y2 score label"
    table = pd.DataFrame(rows, columns=columns.split())
    table.insert(1, "file_name", [f"image {image_id}.png" for image_id in table["image_id"]])
    return table.astype({"label": "int64"})
