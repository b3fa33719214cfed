"""Quantize, export and evaluate, one after the other, on a detector that needs no training."""

import contextlib
import json
import shutil
import subprocess
import sys

import numpy as np
import pyarrow.parquet
import pytest

from frontier import params
from frontier.errors import StageFailed, TamperedError, TargetUnavailable, UsageError
from frontier.files import read_json, sha256, write_manifest
from frontier.images import read_image
from frontier.quantization.study import JUDGED_ALONE
from frontier.runtime.predictor import Predictor
from frontier.stages import Inputs, evaluate, export, quantize
from frontier.targets import network, tensorrt
from tests import sdk
from tests.standin import CLASSES, load_standin, write_project

RUN = params.Run(
    seed=0, threads=1, device="cpu", precision="float32", compile="auto", loader_workers=1
)
QUANTIZE = params.Quantize(
    calibration_images=8, calibration_method="minmax", sensitivity_images=12, max_ap_drop=0.01
)
EXPORT = params.Export(parity_images=8, max_ap_gap=0.001)
MEASURE = params.Measure(latency="reuse", warmup=1, blocks=5, queries=2, max_drift=0.5)
RULES = params.Evaluate(
    score_threshold=0.001, iou_threshold=0.65, vote_iou=0.6, candidates=500, max_detections=100
)
TARGETS = {
    "onnxruntime-cpu": params.Target(kind="onnxruntime-cpu", like="onnxruntime-cpu"),
    "tensorrt": params.Target(kind="tensorrt", like="onnxruntime-cpu", compute_capability=75),
}


def run_stage(root, stage, target, **sections):
    name = stage.__name__.rpartition(".")[2]
    out = root / "data" / name / target
    out.mkdir(parents=True)
    chosen = stage.Params(run=RUN, target=TARGETS[target], **sections)
    metrics = stage.run(chosen, Inputs(root, ("data",), target, root / ".work"), out)
    return out, metrics


def run_all(root, target):
    quantized = run_stage(
        root, quantize, target, quantize=QUANTIZE, measure=MEASURE, evaluate=RULES
    )
    sections = {"export": EXPORT, "measure": MEASURE, "evaluate": RULES}
    exported = run_stage(root, export, target, **sections)
    return quantized, exported, run_stage(root, evaluate, target, evaluate=RULES)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    root = tmp_path_factory.mktemp("project")
    write_project(root)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quantize, "load_detector", load_standin)
        patch.setattr(export, "load_detector", load_standin)
        yield root


@pytest.fixture(scope="module")
def cpu(project):
    return run_all(project, "onnxruntime-cpu")


@pytest.fixture
def bundle(cpu):
    return cpu[1][0] / "bundle"


def test_the_plan_leaves_the_measured_most_sensitive_group_float(cpu):
    plan = read_json(cpu[0][0] / "plan.json")
    assert plan["spelling"] == "u8s8"
    assert plan["AP_float"] > 0.95
    assert plan["latency_float_p50_ms"] > 0
    groups = {group["name"]: group for group in plan["groups"]}
    (worst,) = (name for name, group in groups.items() if "most sensitive" in group["reason"])
    by_ap = "most sensitive by AP drop" in groups[worst]["reason"]
    measure = "ap_drop" if by_ap else "output_error"
    cost = {
        name: group[measure] / max(group["gain_ms"], 0.02)
        for name, group in groups.items()
        if group[measure] is not None
    }
    assert worst == max(cost, key=cost.get)
    assert groups[worst]["precision"] == "float32"
    assert plan["answer"] in ("hybrid", "float")
    if plan["answer"] == "hybrid":
        assert plan["AP_float"] - plan["AP_int8"] <= QUANTIZE.max_ap_drop
        assert {g["precision"] for g in plan["groups"]} == {"int8", "float32"}
    else:
        assert sha256(cpu[0][0] / "quantized.onnx") == sha256(cpu[0][0] / "float.onnx")


def test_the_plan_says_what_was_measured(cpu):
    plan = read_json(cpu[0][0] / "plan.json")
    measured = plan["measured"]
    assert measured["output_error"] == {"groups": len(plan["groups"]), "images": 12}
    drops = [group["ap_drop"] for group in plan["groups"] if group["ap_drop"] is not None]
    assert measured["ap_drop"] == {"groups": len(drops), "images": 12}
    assert len(drops) == JUDGED_ALONE
    assert measured["plans"]


def test_the_float_artifact_agrees_with_torch(cpu):
    parity = read_json(cpu[1][0] / "export.json")["parity"]
    assert parity["AP_gap"] < 1e-3
    assert parity["AP_torch"] > 0.95
    assert parity["matched_boxes"] == 1.0
    assert parity["max_box_px"] < 0.01
    assert parity["shapes"] == 3
    resized = parity["resized"]
    assert resized["longest_side"] > parity["longest_side"]
    assert resized["AP_gap"] <= 0.01
    assert resized["AP_torch"] > 0.9
    assert resized["matched_boxes"] == 1.0


def test_a_graph_with_another_letterbox_is_not_exported(cpu, project, monkeypatch):
    """On squares alone, the letterbox is the identity and such a fault would go unseen."""
    wrong = network._LETTERBOX.replace("int64[1] {2}", "int64[1] {4}")
    monkeypatch.setattr(network, "_LETTERBOX", wrong)
    sections = {"export": EXPORT, "measure": MEASURE, "evaluate": RULES}
    with set_aside(project, "export"), pytest.raises(StageFailed, match="max_ap_gap"):
        run_stage(project, export, "onnxruntime-cpu", **sections)


def test_networks_and_pipelines_are_timed(cpu):
    exported = read_json(cpu[1][0] / "export.json")
    assert exported["status"] == "measured"
    assert {*exported["latency"]} == {"int8", "float", "pipeline", "pipeline_float"}
    image = exported["timed_image"]
    assert (image["split"], image["boxes"] > 0) == ("val", True)
    assert {image["height"], image["width"]} <= {32, 64}
    low, high = exported["latency"]["int8"]["interval_ms"]
    assert 0 < low <= exported["latency"]["int8"]["p50_ms"] <= high
    assert exported["size_bytes"] == (cpu[1][0] / "bundle" / "model.onnx").stat().st_size


def test_no_timing_is_a_metric(cpu):
    names = {name for _, metrics in cpu for name in metrics}
    assert not [name for name in names if name.endswith(("_ms", "_s"))]
    json.dumps([metrics for _, metrics in cpu], allow_nan=False)


def test_the_artifact_is_scored_on_the_test_images(cpu):
    out, metrics = cpu[2]
    scores = read_json(out / "evaluate.json")
    assert scores["status"] == "measured"
    assert scores["AP"] > 0.9
    assert abs(scores["AP"] - scores["float"]["AP"]) < 0.02
    low, high = scores["AP_interval"]
    assert low <= scores["AP"] <= high
    assert [row["name"] for row in scores["per_class"]] == [c["name"] for c in CLASSES]
    assert metrics["AP"] == scores["AP"]
    table = pyarrow.parquet.read_table(out / "detections.parquet").to_pydict()
    corners = {"x1", "y1", "x2", "y2"}
    assert {*table} == {"image_id", "file_name", *corners, "score", "label", "category_id"}
    assert {*table["label"]} == {0, 1, 2}
    own_ids = [CLASSES[label]["category_id"] for label in table["label"]]  # 10, 20, 30: with gaps
    assert table["category_id"] == own_ids
    assert table["file_name"][0] == f"{table['image_id'][0]}.png"
    curves = read_json(out / "curves.json")
    assert sum(curves["precision_mean"]) / 101 == pytest.approx(scores["AP50"], abs=1e-6)
    boxes = [row["boxes"] for row in scores["per_class"]]
    assert [sum(row) for row in curves["confusion"][:-1]] == boxes


@contextlib.contextmanager
def set_aside(project, *stages):
    """Make room for a second run of some stages, and bring the first one back."""
    for name in stages:
        (project / "data" / name / "onnxruntime-cpu").rename(project / "data" / name / "first")
    try:
        yield
    finally:
        for name in stages:
            shutil.rmtree(project / "data" / name / "onnxruntime-cpu")
            (project / "data" / name / "first").rename(project / "data" / name / "onnxruntime-cpu")


def test_recorded_latencies_make_a_second_run_the_same(cpu, project):
    files = {
        "quantize": ("plan.json", "float.onnx", "quantized.onnx"),
        "export": ("export.json", "bundle/model.onnx", "float_bundle/model.onnx"),
        "evaluate": ("evaluate.json", "curves.json", "detections.parquet"),
    }
    with set_aside(project, *files):
        run_all(project, "onnxruntime-cpu")
        for stage, names in files.items():
            folder = project / "data" / stage
            for name in names:
                again, first = folder / "onnxruntime-cpu" / name, folder / "first" / name
                assert sha256(again) == sha256(first), name


def test_the_predictor_loads_the_bundle_and_no_torch(bundle, project):
    code = (
        "import sys, pathlib; from frontier.runtime.predictor import Predictor; "
        "Predictor(pathlib.Path(sys.argv[1])); "
        "assert not {'torch', 'mlflow', 'prefect', 'dvc'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(bundle)], check=True)


def test_the_predictor_answers_in_pixels_of_the_image(bundle, project):
    predictor = Predictor(bundle)
    assert predictor.classes == ["red", "green", "blue"]
    image = read_image(project / "data" / "images" / "0.png")
    found = predictor(image)
    assert found.boxes_xyxy.dtype == np.float32
    assert found.boxes_xyxy.max() <= max(image.shape)
    assert 0.99 < found.scores[0] / 0.75 < 1  # one anchor is sure, and no other says so too
    with pytest.raises(UsageError, match="uint8"):
        predictor(image.astype(np.float32))


def test_a_tampered_bundle_is_refused(bundle, tmp_path):
    copied = tmp_path / "bundle"
    shutil.copytree(bundle, copied)
    Predictor(copied)
    (copied / "detector.json").write_text("{}")
    with pytest.raises(TamperedError, match=r"detector\.json"):
        Predictor(copied)


def test_a_network_that_differs_from_torch_is_not_exported(cpu, project, monkeypatch):
    def load_other(folder):
        loaded = load_standin(folder)
        loaded.module.centres += 3
        return loaded

    monkeypatch.setattr(export, "load_detector", load_other)
    sections = {"export": EXPORT, "measure": MEASURE, "evaluate": RULES}
    with set_aside(project, "export"), pytest.raises(StageFailed, match="max_ap_gap"):
        run_stage(project, export, "onnxruntime-cpu", **sections)


def test_a_target_that_cannot_run_here_is_built_and_recorded_as_such(project):
    sdk.tensorrt_rtx()
    (plan, _), (exported, _), (evaluated, metrics) = run_all(project, "tensorrt")
    assert read_json(plan / "plan.json")["spelling"] == "s8s8"
    assert read_json(plan / "plan.json")["latency_int8_p50_ms"] is None
    built = read_json(exported / "export.json")
    assert built["status"] == "built-not-run"
    assert "GPU" in built["reason"]
    assert built["latency"] is None
    assert built["parity"] is None
    assert not read_json(exported / "bundle" / "detector.json")["includes_postprocess"]
    scores = read_json(evaluated / "evaluate.json")
    assert scores["status"] == "built-not-run"
    assert "AP" not in scores
    assert metrics == {}
    write_manifest(exported)
    with pytest.raises(TargetUnavailable, match="onnxruntime-cpu"):
        Predictor(exported / "bundle")


def test_a_target_without_its_builder_is_recorded_and_stops_nothing(cpu, tmp_path, monkeypatch):
    for name in tensorrt.SDKS:
        monkeypatch.setitem(sys.modules, name, None)
    write_project(tmp_path)
    shutil.copytree(cpu[0][0], tmp_path / "data" / "quantize" / "tensorrt")
    sections = {"export": EXPORT, "measure": MEASURE, "evaluate": RULES}
    exported, metrics = run_stage(tmp_path, export, "tensorrt", **sections)
    assert metrics == {}
    assert [path.name for path in exported.iterdir()] == ["export.json"]
    evaluated, metrics = run_stage(tmp_path, evaluate, "tensorrt", evaluate=RULES)
    assert metrics == {}
    for path in (exported / "export.json", evaluated / "evaluate.json"):
        assert read_json(path)["status"] == "not-built"
        assert "pip install" in read_json(path)["reason"]
