"""New images, an event, a served deployment, and a champion that a worse challenger cannot replace.

The dataset is one bright block on noise per image. The champion is an ONNX graph that finds the
block by its brightness, so it is right everywhere; the challenger has been trained for seconds.
"""

import json
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image

from frontier.files import read_json, write_json, write_manifest
from frontier.params import load_params
from frontier.tracking import registry
from frontier.tracking.store import connect
from pipelines import challenge
from pipelines.settings import Request, merge
from tests.e2e import checkout

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1200)]
TARGET = "onnxruntime-cpu"
SPLITS = {"train": 24, "val": 8, "test": 12}
APPENDED = 6


def append_images(folder: Path, split: str, count: int) -> None:
    """Add images with one bright block each, and their boxes, to a split of a COCO folder."""
    path = folder / "annotations" / f"instances_{split}.json"
    categories = [{"id": 5, "name": "block"}]
    content: dict[str, Any] = {"images": [], "annotations": [], "categories": categories}
    if path.is_file():
        content = read_json(path)
    start = len(content["images"])
    for image_id in range(start, start + count):
        rng = np.random.default_rng([len(split), ord(split[0]), image_id])
        pixels = rng.integers(0, 100, (96, 96, 3), np.uint8)
        x, y, w, h = (int(value) for value in rng.integers([4, 4, 20, 20], [50, 50, 44, 44]))
        pixels[y : y + h, x : x + w] = rng.integers(180, 255, (h, w, 3), np.uint8)
        name = f"{split}_{image_id:03d}.png"
        (folder / "images").mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / "images" / name)
        content["images"].append({"id": image_id, "file_name": name, "width": 96, "height": 96})
        box = {"bbox": [x, y, w, h], "area": w * h, "iscrowd": 0, "category_id": 5}
        content["annotations"].append({"id": image_id, "image_id": image_id, **box})
    write_json(path, content)


def write_oracle(folder: Path) -> Path:
    """A bundle whose model finds the block: first and last bright row and column."""
    folder.mkdir(parents=True)
    nodes = [
        helper.make_node("Cast", ["image"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["floats"], ["grey"], axes=[2], keepdims=0),
        helper.make_node("Greater", ["grey", "threshold"], ["bright"]),
        helper.make_node("Cast", ["bright"], ["mask"], to=TensorProto.FLOAT),
    ]
    corners = []
    for name, axis in (("x", 0), ("y", 1)):  # columns are what is left when rows are reduced
        nodes.append(helper.make_node("ReduceMax", ["mask"], [name], axes=[axis], keepdims=0))
        for last in (0, 1):
            corner = f"{name}{last}"
            found, moved = f"{corner}_found", f"{corner}_moved"
            nodes.append(
                helper.make_node("ArgMax", [name], [found], keepdims=1, select_last_index=last)
            )
            nodes.append(helper.make_node("Add", [found, f"add{last}"], [moved]))
            nodes.append(helper.make_node("Cast", [moved], [corner], to=TensorProto.FLOAT))
            corners.append(corner)
    order = ["x0", "y0", "x1", "y1"]
    nodes.append(helper.make_node("Concat", order, ["box"], axis=0))
    nodes.append(helper.make_node("Reshape", ["box", "shape"], ["boxes_xyxy"]))
    nodes.append(helper.make_node("Identity", ["one"], ["scores"]))
    nodes.append(helper.make_node("Identity", ["zero"], ["labels"]))
    constants = {
        "threshold": np.array(140, np.float32),
        "add0": np.array([0], np.int64),
        "add1": np.array([1], np.int64),
        "shape": np.array([1, 4], np.int64),
        "one": np.array([1], np.float32),
        "zero": np.array([0], np.int64),
    }
    graph = helper.make_graph(
        nodes,
        "oracle",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["H", "W", 3])],
        [
            helper.make_tensor_value_info("boxes_xyxy", TensorProto.FLOAT, ["N", 4]),
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N"]),
            helper.make_tensor_value_info("labels", TensorProto.INT64, ["N"]),
        ],
        [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    opset = [helper.make_opsetid("", 13)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), folder / "model.onnx")
    description = {"kind": TARGET, "classes": [{"category_id": 5, "name": "block"}]}
    write_json(folder / "detector.json", description)
    write_manifest(folder)
    return folder


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout pointed at the blocks, with the oracle as champion."""
    root = checkout.copy(tmp_path_factory.mktemp("retrain"))
    for split, count in SPLITS.items():
        append_images(root / "photos", split, count)
    merge(root, Request(preset="smoke", data="photos", targets=[TARGET])).write()
    client, experiment = connect(root)
    run = client.create_run(experiment, run_name="oracle")
    oracle = write_oracle(root / "oracle")
    facts = {"frontier.latency_p50_ms": "1000.0", "frontier.hardware": "another machine"}
    version = registry.register(client, run.info.run_id, TARGET, oracle, facts)
    registry.promote(client, TARGET, version.version)
    client.set_terminated(run.info.run_id)
    return root


@pytest.fixture(scope="module")
def served(project: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """`frontier schedule`, with its deployment registered and waiting."""
    with (project / "schedule.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "frontier.cli", "schedule", "--cron", "0 0 1 1 *"],
            cwd=project,
            env=checkout.environment(project),
            stdout=log,
            stderr=subprocess.STDOUT,
            # tests run in the background have SIGINT ignored, and so would this process
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
    wait(lambda: ask(project, "automations"), process, 240)
    yield process
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0


def ask(root: Path, what: str) -> list[dict[str, Any]]:
    """Entities of the Prefect server that the schedule started; none before it answers."""
    record = root / ".prefect" / "server.json"
    if not record.is_file():
        return []
    request = urllib.request.Request(
        f"{read_json(record)['url']}/{what}/filter",
        data=b"{}",
        headers={"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=20) as response:
            return list(json.load(response))
    except OSError:
        return []


def wait(condition: Any, process: "subprocess.Popen[bytes]", seconds: float) -> Any:
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert process.poll() is None, "the schedule ended"
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(1)
    return value


def test_new_images_and_an_event_retrain_and_the_worse_challenger_is_refused(
    project: Path, served: "subprocess.Popen[bytes]"
) -> None:
    for split in SPLITS:
        append_images(project / "photos", split, APPENDED)
    answer = checkout.frontier(project, "schedule", "--emit")
    assert answer.returncode == 0, answer.stderr

    def ended() -> list[dict[str, Any]]:
        retrains = [run for run in ask(project, "flow_runs") if run.get("deployment_id")]
        triggered = [run for run in retrains if run["state_type"] != "SCHEDULED"]
        return [run for run in triggered if run["state_type"] not in {"PENDING", "RUNNING"}]

    (run,) = wait(ended, served, 800)
    log = (project / "schedule.log").read_text()
    assert run["state_type"] == "COMPLETED", log

    counts = read_json(project / "data/validate/judged/verdict.json")["counts"]
    assert counts["images_in"] == sum(SPLITS.values()) + len(SPLITS) * APPENDED
    (decision,) = read_json(project / "data/report/decision.json")
    assert not decision["promote"]
    assert decision["gain"]["high"] < 0
    client, _ = connect(project)
    aliases = client.get_registered_model(f"frontier-{TARGET}").aliases
    assert str(aliases["champion"]) == decision["champion_version"]
    assert str(aliases["challenger"]) == decision["challenger_version"]
    closed = read_json(project / "data/report/summary.json")
    tags = client.get_run(closed["run_id"]).data.tags
    assert tags[f"decision.{TARGET}"] == decision["reason"]
    assert closed["stages"]["pseudo_label"]["outcome"] == "skipped"
    assert read_json(project / "data/pseudo_label/audit.json")["status"] == "skipped"


def test_the_gate_opens_the_other_way(project: Path) -> None:
    """The same comparison, oracle against the trained detector: above zero beyond chance."""
    params = load_params(project / "params.yaml")
    trained = project / "data" / "export" / TARGET / "bundle"
    gain, trained_ap = challenge.compare(project, params, project / "oracle", trained)
    assert gain.low > 0
    assert gain.delta == pytest.approx(1 - trained_ap, abs=0.01)
