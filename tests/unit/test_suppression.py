"""What training and search keep of a network's boxes is what the exported model keeps."""

import numpy as np
import pytest
import torch
from torch import nn

from frontier.data.loading.packing import PackedSplit, StoredImages, stack_targets
from frontier.metrics import coco_metrics
from frontier.models.inference import detect, truth_of
from frontier.models.suppression import KeepBest
from frontier.params import Evaluate
from frontier.runtime.session import OnnxSession
from frontier.targets import network
from tests.standin import SIDE, Standin, scene
from tests.unit.test_network import RULES, reference_suppression, reference_vote


def problem(seed: int, boxes: int = 60, classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 40, (boxes, 2))
    far = corner + rng.uniform(5, 40, (boxes, 2))
    xyxy = np.concatenate([corner, far], 1).astype(np.float32)
    return xyxy, rng.random((boxes, classes)).astype(np.float32)


def expected(boxes: np.ndarray, scores: np.ndarray, rules: Evaluate) -> list[tuple]:
    """(score, label, box), best first, by the plain algorithm."""
    kept = reference_suppression(boxes, scores, rules)
    votes = [reference_vote(boxes, scores, label, i, rules) for _, label, i in kept]
    rows = [
        (score * agreement, label, box)
        for (score, label, _), (box, agreement) in zip(kept, votes, strict=True)
    ]
    return sorted(rows, key=lambda row: -row[0])


def split_with(images: np.ndarray, parts: list[tuple]) -> PackedSplit:
    count = len(images)
    sizes = np.tile([images.shape[1]] * 2, (count, 1))
    stored = StoredImages(images, np.arange(count))
    return PackedSplit(
        stored, 3, np.arange(count) * 5 + 2, sizes, *stack_targets(parts), "made/val"
    )


class Says(nn.Module):
    """A network that answers what it is given, image by image."""

    def __init__(self, answers: list[tuple[np.ndarray, np.ndarray]]) -> None:
        super().__init__()
        self.answers, self.weight = iter(answers), nn.Parameter(torch.zeros(1))

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        own = [next(self.answers) for _ in images]
        return tuple(torch.from_numpy(np.stack(part)) for part in zip(*own, strict=True))


@pytest.mark.parametrize("side", [40, 80])
def test_detections_in_torch_are_those_of_the_plain_algorithm(side: int) -> None:
    """18 random problems, more than one batch, the last of which finds nothing."""
    problems = [problem(seed) for seed in range(17)] + [(problem(17)[0], np.zeros((60, 3), "f4"))]
    blank = split_with(np.zeros((18, 80, 80, 3), np.uint8), [([], [], [])] * 18)
    found = detect(Says(problems), blank, side, RULES)
    for image_id, (boxes, scores) in zip(blank.image_ids, problems, strict=True):
        mine, rows = found.only(np.array([image_id])), expected(boxes, scores, RULES)
        assert mine.labels.tolist() == [label for _, label, _ in rows]
        np.testing.assert_allclose(mine.scores, [score for score, *_ in rows], rtol=1e-5)
        voted = np.array([box for *_, box in rows]).reshape(-1, 4) * (80 / side)
        np.testing.assert_allclose(mine.boxes_xyxy, voted.clip(0, 80), atol=1e-3)
    assert not (found.image_id == blank.image_ids[-1]).any()


def test_of_equal_scores_one_is_kept_where_they_overlap_and_both_where_they_do_not() -> None:
    boxes = np.array([[0, 0, 20, 20], [0, 0, 20, 20], [40, 40, 60, 60]], np.float32)
    scores = np.full((3, 2), 0.5, np.float32)
    kept, values, labels = KeepBest(RULES)(boxes, scores, 64, 64)
    assert sorted(zip(labels.tolist(), kept[:, 0].tolist(), strict=True)) == [
        (0, 0.0), (0, 40.0), (1, 0.0), (1, 40.0)
    ]  # fmt: skip
    again = KeepBest(RULES)(boxes, scores, 64, 64)
    assert all(np.array_equal(a, b) for a, b in zip((kept, values, labels), again, strict=True))


def test_torch_and_the_exported_model_keep_the_same_of_real_images(tmp_path) -> None:
    rng = np.random.default_rng(0)
    pictures, truths, labels = zip(*(scene(rng, side=SIDE) for _ in range(5)), strict=True)
    parts = [(b, own, [0] * len(own)) for b, own in zip(truths, labels, strict=True)]
    split = split_with(np.stack(pictures), parts)
    found = detect(Standin(), split, SIDE, RULES)
    exported = network.export_network(Standin(), SIDE, tmp_path / "network.onnx")
    session = OnnxSession(network.full_model(exported, SIDE, RULES, tmp_path / "full.onnx"), 1)
    for image_id, picture in zip(split.image_ids, pictures, strict=True):
        mine, own = found.only(np.array([image_id])), session.run({"image": picture})
        assert mine.labels.tolist() == own["labels"].tolist()
        np.testing.assert_allclose(mine.scores, own["scores"], atol=1e-5)
        np.testing.assert_allclose(mine.boxes_xyxy, own["boxes_xyxy"], atol=1e-3)
    assert coco_metrics(truth_of(split), found)["AP"] == pytest.approx(1.0)


def test_what_is_found_in_a_crowd_costs_no_ap() -> None:
    """Eight boxes scattered over a crowd, surer than the one object beside it."""
    crowd, single = [0, 0, 60, 60], [70, 70, 79, 79]
    scattered = [[x, y, x + 9, y + 9] for x in (0, 12, 24, 36) for y in (0, 20)]
    boxes = np.array([single, *scattered], np.float32)
    scores = np.zeros((9, 3), np.float32)
    scores[:, 1] = [0.5, *[0.9] * 8]
    split = split_with(np.zeros((1, 80, 80, 3), np.uint8), [([crowd, single], [1, 1], [1, 0])])
    found = detect(Says([(boxes, scores)]), split, 80, RULES)
    assert len(found.scores) == 9
    assert coco_metrics(truth_of(split), found)["AP"] == pytest.approx(1.0)
