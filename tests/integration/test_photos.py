"""What random pixels cannot show: the network on real photos. Skipped in a clone without them."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch

from frontier.boxes import xywh_to_xyxy
from frontier.data.loading.packing import stack_targets
from frontier.files import read_json, write_json
from frontier.images import read_image
from frontier.labeling.description import read_description
from frontier.labeling.onnx_detector import OnnxDetector
from frontier.labeling.untrusted import checked_model
from frontier.metrics import Detections, Truth, coco_metrics
from frontier.models.architecture import yolo_nas
from frontier.models.blocks import fuse
from frontier.models.detector import Detector
from frontier.models.inference import image_batches
from frontier.training.sources import settle
from tests.bench.photos import packed

REAL = Path(__file__).parents[2].parent / "shared" / "data"


@pytest.mark.real
@pytest.mark.skipif(not REAL.is_dir(), reason="real photos not present")
@pytest.mark.parametrize("folder", ["bccd", "dice"])
def test_fused_equals_unfused_on_photos(folder):
    torch.manual_seed(0)
    split = packed(REAL / folder, "val", 320)
    detector = Detector(yolo_nas("s", 0.25, 320), split.num_classes)
    settle(detector, split, 320)
    images = next(image_batches(split, 320, torch.device("cpu")))
    exact = copy.deepcopy(detector).double()
    with torch.no_grad():
        expected = exact(images.double())
        fused, fused_exact = fuse(detector)(images), fuse(exact)(images.double())
    for name in ("logits", "bins"):
        wanted = getattr(expected, name)
        torch.testing.assert_close(getattr(fused_exact, name), wanted, atol=1e-10, rtol=1e-10)
        # against float64: two float32 networks would differ by the rounding of both
        torch.testing.assert_close(getattr(fused, name).double(), wanted, atol=1e-4, rtol=1e-4)


@pytest.mark.real
@pytest.mark.skipif(not REAL.is_dir(), reason="real photos not present")
def test_a_known_onnx_detector_is_as_good_as_it_is_known_to_be(tmp_path):
    coco = REAL / "coco_mini"
    names = [c["name"] for c in read_json(coco / "annotations/instances_val.json")["categories"]]
    write_json(
        tmp_path / "yolox.yaml",
        {
            "model": str(REAL.parent / "weights" / "yolox_nano.onnx"),
            "image_size": [416, 416],
            "colour": "bgr",
            "range": "0-255",
            "mean": [0, 0, 0],
            "std": [1, 1, 1],
            "place": "top-left",
            "border": 114,
            "output": {"layout": "yolox", "strides": [8, 16, 32]},
            "classes": names,
        },
    )
    described = read_description(tmp_path / "yolox.yaml")
    detector = OnnxDetector(checked_model(described.model), described.description, 1)
    label_of, rows, truth = {}, [], []
    for split in ("val", "test"):
        content = read_json(coco / "annotations" / f"instances_{split}.json")
        label_of |= {c["id"]: names.index(c["name"]) for c in content["categories"]}
        for image in content["images"]:
            own = [a for a in content["annotations"] if a["image_id"] == image["id"]]
            found = detector(read_image(coco / "images" / image["file_name"]))
            rows.append((found.boxes_xyxy, found.scores, found.classes))
            boxes = xywh_to_xyxy([a["bbox"] for a in own])
            labels = [label_of[a["category_id"]] for a in own]
            truth.append((boxes, labels, np.zeros(len(own))))
    ids = np.arange(len(rows))
    metrics = coco_metrics(
        Truth(len(names), ids, *stack_targets(truth)), Detections.gather(ids.tolist(), rows)
    )
    assert len(rows) == 128
    assert metrics["AP"] == pytest.approx(0.337, abs=0.005)
    assert metrics["AP50"] == pytest.approx(0.497, abs=0.005)
