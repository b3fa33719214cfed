from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from frontier.boxes import Letterbox, iou
from frontier.errors import UsageError
from frontier.files import sha256
from frontier.models.suppression import OPSET, parse_graph, postprocess_model
from frontier.params import Evaluate, load_yaml, parse_params
from frontier.runtime.session import OnnxSession
from frontier.targets import network
from tests.standin import SIDE, Standin, scene

RULES = Evaluate(
    score_threshold=0.05, iou_threshold=0.5, vote_iou=0.4, candidates=500, max_detections=20
)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    return network.export_network(Standin(), SIDE, tmp_path_factory.mktemp("net") / "network.onnx")


def test_the_network_agrees_with_torch(exported):
    images = np.random.default_rng(0).random((1, 3, SIDE, SIDE), np.float32)
    boxes, scores = Standin()(torch.from_numpy(images))
    found = OnnxSession(exported, 1).run({"images_BCHW": images})
    np.testing.assert_allclose(found["boxes_xyxy"], boxes, atol=1e-4)
    np.testing.assert_allclose(found["scores"], scores, atol=1e-5)


def test_two_exports_give_the_same_bytes_and_no_machine_path(exported, tmp_path):
    again = network.export_network(Standin(), SIDE, tmp_path / "again.onnx")
    assert sha256(again) == sha256(exported)
    checkout = Path(__file__).resolve().parents[2]
    assert str(checkout).encode() not in exported.read_bytes()
    assert b".py" not in exported.read_bytes()


def test_weights_keep_their_module_path(exported):
    names = {tensor.name for tensor in onnx.load(exported).graph.initializer}
    assert {"backbone.stem.conv.weight", "head.0.class_pred.weight"} <= names


def test_operators_without_integer_kernels_are_spelled_otherwise(exported):
    operators = {node.op_type for node in onnx.load(exported).graph.node}
    assert not operators & {"ConvTranspose", "MatMul", "Constant", "Identity"}


@pytest.mark.parametrize(
    "size_hw", [(64, 64), (40, 64), (64, 31), (480, 641), (1, 300), (97, 33), (7, 5), (1080, 1920)]
)
def test_the_letterbox_is_that_of_boxes(size_hw):
    image = np.random.default_rng(1).integers(0, 256, (*size_hw, 3)).astype(np.uint8)
    graph = parse_graph(network._LETTERBOX, side=SIDE, opset=OPSET)
    found = OnnxSession(graph.SerializeToString(), 1).run({"image": image})
    expected = Letterbox(size_hw, SIDE)
    off = found["square"][0].transpose(1, 2, 0) * 255 - expected.image(image)
    assert np.abs(off).max() < 1.01
    assert abs(off.mean()) < 0.01, "ties may be rounded apart, but to neither side more often"
    np.testing.assert_allclose(found["scale"], expected.scale_xyxy[[1, 0]], rtol=1e-6)
    assert found["pad"].tolist() == expected.pad_xyxy[[1, 0]].tolist()


def reference_suppression(boxes, scores, rules):
    """Greedy, class by class, best first."""
    kept = []
    for label in range(scores.shape[1]):
        own = [i for i in np.argsort(-scores[:, label]) if scores[i, label] > rules.score_threshold]
        chosen = []
        for i in own:
            if all(iou(boxes[[i]], boxes[[j]])[0, 0] <= rules.iou_threshold for j in chosen):
                chosen.append(i)
        kept += [(scores[i, label], label, i) for i in chosen[: rules.max_detections]]
    return sorted(kept, reverse=True)[: rules.max_detections]


def reference_vote(boxes, scores, label, kept, rules):
    """The mean box of those that overlap the kept one, one at a time, and their agreement."""
    total, weights = np.zeros(4), 0.0
    for box, own in zip(boxes, scores[:, label], strict=True):
        vote = own * max(0.0, iou(box[None], boxes[[kept]])[0, 0] - rules.vote_iou)
        total, weights = total + vote * box, weights + vote
    return total / weights, weights / (weights + (1 - rules.vote_iou) / 3)


@pytest.mark.parametrize("seed", range(5))
def test_suppression_keeps_what_the_plain_algorithm_keeps(seed):
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 40, (60, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(5, 40, (60, 2))], 1).astype(np.float32)
    scores = rng.random((60, 3)).astype(np.float32)
    letterbox = Letterbox((50, 100), 80)
    session = OnnxSession(postprocess_model(RULES).SerializeToString(), 1)
    feeds = {
        "network_boxes_xyxy": boxes[None],
        "network_scores": scores[None],
        "size": np.array(letterbox.size_hw, np.float64),
        "scale": letterbox.scale_xyxy[[1, 0]].astype(np.float64),
        "pad": letterbox.pad_xyxy[[1, 0]].astype(np.float64),
    }
    found = session.run(feeds)
    kept = reference_suppression(boxes, scores, RULES)
    votes = [reference_vote(boxes, scores, label, i, RULES) for _, label, i in kept]
    assert (
        max(np.abs(v - boxes[i]).max() for (v, _), (*_, i) in zip(votes, kept, strict=True)) > 0.5
    )
    agreed = [
        (score * agreement, label, box)
        for (score, label, _), (box, agreement) in zip(kept, votes, strict=True)
    ]
    expected = sorted(agreed, key=lambda item: -item[0])
    assert [score for score, *_ in agreed] != [score for score, *_ in expected]  # others come first
    assert found["labels"].tolist() == [label for _, label, _ in expected]
    np.testing.assert_allclose(found["scores"], [score for score, *_ in expected], rtol=1e-5)
    voted = np.stack([box for *_, box in expected])
    original = letterbox.from_square(voted.astype(np.float32))
    np.testing.assert_allclose(found["boxes_xyxy"], original, atol=1e-4)


@pytest.mark.parametrize(("candidates", "found"), [(1000, 1000), (600, 600)])
def test_as_many_boxes_are_found_as_the_rules_allow(candidates, found):
    corners = np.stack(np.meshgrid(np.arange(40) * 16, np.arange(25) * 16), -1).reshape(1, -1, 2)
    boxes = np.concatenate([corners, corners + 10], 2).astype(np.float32)
    rules = RULES.model_copy(update={"candidates": candidates, "max_detections": 1000})
    session = OnnxSession(postprocess_model(rules).SerializeToString(), 1)
    still = {"size": np.full(2, 640.0), "scale": np.ones(2), "pad": np.zeros(2)}
    scores = np.full((1, 1000, 1), 0.9, np.float32)
    got = session.run({"network_boxes_xyxy": boxes, "network_scores": scores, **still})
    assert len(got["scores"]) == found


def test_fewer_candidates_than_detections_are_refused():
    values = load_yaml(Path(__file__).parents[2] / "params.yaml")
    values["evaluate"]["max_detections"] = 1000
    with pytest.raises(UsageError, match=r"evaluate\.candidates: 500 .* max_detections 1000"):
        parse_params(values)
    values["evaluate"]["candidates"] = 1000
    parse_params(values)


def test_a_box_without_area_stays_where_it_is_and_has_no_vote():
    boxes = np.array([[[5, 5, 5, 9], [20, 20, 30, 30]]], np.float32)
    session = OnnxSession(postprocess_model(RULES).SerializeToString(), 1)
    still = {"size": np.full(2, 64.0), "scale": np.ones(2), "pad": np.zeros(2)}
    scores = np.array([[[0.9], [0.5]]], np.float32)
    found = session.run({"network_boxes_xyxy": boxes, "network_scores": scores, **still})
    np.testing.assert_allclose(found["boxes_xyxy"], boxes[0, ::-1], atol=1e-4)
    np.testing.assert_allclose(found["scores"], [0.5 * 0.3 / 0.5, 0], atol=1e-6)


def test_the_full_model_finds_the_squares_in_an_image_of_another_size(exported, tmp_path):
    path = network.full_model(exported, SIDE, RULES, tmp_path / "full.onnx")
    image, boxes, labels = scene(np.random.default_rng(2), side=3 * SIDE)
    found = OnnxSession(path, 1).run({"image": image})
    overlaps = iou(boxes, found["boxes_xyxy"])
    assert overlaps.max(axis=1).min() > 0.95
    assert (found["labels"][overlaps.argmax(axis=1)] == labels).all()
    assert len(found["scores"]) == len(boxes)


def test_an_image_without_objects_gives_no_detections(exported, tmp_path):
    path = network.full_model(exported, SIDE, RULES, tmp_path / "full.onnx")
    found = OnnxSession(path, 1).run({"image": np.full((30, 50, 3), 114, np.uint8)})
    assert [found[name].shape for name in ("boxes_xyxy", "scores", "labels")] == [
        (0, 4),
        (0,),
        (0,),
    ]
