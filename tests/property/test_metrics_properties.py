"""AP against pycocotools, on problems that Hypothesis makes up."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frontier.metrics import (
    STATISTICS,
    Detections,
    ImageMatches,
    Truth,
    coco_metrics,
    paired_bootstrap,
)
from tests.unit.test_metrics import problem, reference

PROBLEMS = st.builds(
    problem,
    seed=st.integers(0, 2**31),
    images=st.integers(1, 6),
    classes=st.integers(1, 4),
    boxes=st.integers(0, 6),
    found=st.integers(1, 120),
    crowds=st.booleans(),
    ties=st.booleans(),
)


@settings(max_examples=300, deadline=None)
@given(PROBLEMS)
def test_equals_pycocotools(made):
    truth, detections = made
    found, expected = coco_metrics(truth, detections), reference(truth, detections)
    for name in STATISTICS:
        assert found[name] == pytest.approx(expected[name], abs=1e-9)


@settings(max_examples=15, deadline=None)
@given(PROBLEMS)
def test_the_identity_resample_is_ap(made):
    truth, detections = made
    identity = np.arange(len(truth.image_ids))
    ap = ImageMatches(truth, detections).ap(identity)
    assert ap == pytest.approx(coco_metrics(truth, detections)["AP"], abs=1e-9)


@settings(max_examples=5, deadline=None)
@given(PROBLEMS, st.integers(0, 100))
def test_the_order_of_images_and_detections_does_not_matter(made, seed):
    truth, detections = made
    rng = np.random.default_rng(seed)
    # equal scores keep their order in COCO's ranking: make them differ
    scores = rng.permutation(len(detections.scores)) / len(detections.scores)
    apart = Detections(detections.image_id, detections.boxes_xyxy, scores, detections.labels)
    order = rng.permutation(len(scores))
    shuffled = Detections(*(column[order] for column in vars(apart).values()))
    images = rng.permutation(len(truth.image_ids))
    rows = [np.arange(truth.offsets[i], truth.offsets[i + 1]) for i in images]
    boxes = np.concatenate(rows).astype(int)
    moved = Truth(
        truth.num_classes,
        truth.image_ids[images],
        np.concatenate([[0], np.cumsum([len(own) for own in rows])]),
        truth.boxes_xyxy[boxes],
        truth.labels[boxes],
        truth.ignore[boxes],
    )
    found, expected = coco_metrics(moved, shuffled), coco_metrics(truth, apart)
    assert found == pytest.approx(expected, abs=1e-9)


@settings(max_examples=5, deadline=None)
@given(PROBLEMS)
def test_a_detector_never_beats_itself(made):
    truth, detections = made
    assert paired_bootstrap(truth, detections, detections, samples=5) == (0.0, 0.0, 0.0)
