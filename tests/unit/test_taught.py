"""Learning from a teacher that shows boxes and scores alone, and weights that fade."""

import math

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from frontier.data.loading.loader import batches
from frontier.metrics import Detections
from frontier.models.decoding import REG_MAX, anchor_points
from frontier.models.detector import Outputs
from frontier.training import losses
from frontier.training.assigner import assign
from frontier.training.loop import TensorBatch, Training
from frontier.training.losses import Grid, predicted_boxes, shown_losses, taught_losses
from frontier.training.recipes import distilled, distilled_from_boxes, faded
from frontier.training.taught import Shown, with_detections
from tests import tiny
from tests.oracles import boxes, slow_giou

CPU = torch.device("cpu")


def found(split, per_image: int = 2) -> Detections:
    rng = np.random.default_rng(3)
    count = per_image * len(split)
    corners = rng.uniform(20, 60, (count, 2))
    rows = np.concatenate([corners, corners + rng.uniform(10, 40, (count, 2))], 1)
    ids = np.tile(split.image_ids, per_image)  # not in the order of the images
    scores = rng.uniform(0.1, 1, count).astype(np.float32)
    return Detections(ids, rows.astype(np.float32), scores, rng.integers(0, 3, count))


def loaded(splits, augment, side=tiny.SIDE):
    given = {"batch_size": 5, "image_size": lambda _: side, "augment": augment, "seed": 1}
    return next(batches(splits, **given, workers=0, start=0, steps=1))


def test_detections_travel_with_the_true_boxes_and_come_back_with_their_scores():
    splits = [tiny.split_of(3), tiny.split_of(4, first_id=50)]
    detections = [found(split) for split in splits]
    joined = with_detections(splits, detections)
    shown = Shown.of(3, detections, CPU)
    batch = loaded(joined, None)
    true, theirs = shown.parted(torch.from_numpy(batch.labels))
    everything = {}
    for part in detections:
        for image_id, box, score, label in zip(
            part.image_id, part.boxes_xyxy, part.scores, part.labels, strict=True
        ):
            everything.setdefault(int(image_id), []).append(
                (*box.tolist(), float(score), int(label))
            )
    for i, image_id in enumerate(batch.image_ids.tolist()):
        taught = theirs.labels[i] >= 0
        got = [
            (*box.tolist(), float(score), int(label))
            for box, score, label in zip(
                torch.from_numpy(batch.boxes_xyxy[i])[taught], theirs.scores[i][taught],
                theirs.labels[i][taught], strict=True,
            )
        ]  # fmt: skip
        assert sorted(got) == sorted(everything[image_id])
        assert int((true[i] >= 0).sum()) == 1
        assert not (true[i] >= 0)[taught].any()
        assert (theirs.scores[i][~taught] == 0).all()


def test_augmentation_moves_and_cuts_them_like_true_boxes():
    split = tiny.split_of(8)
    same = Detections(split.image_ids, split.boxes_xyxy, np.full(8, 0.5, np.float32), split.labels)
    joined = with_detections([split], [same])
    augment = tiny.PARAMS.train.augment.model_copy(
        update={"scale": (0.8, 1.2), "mosaic": 0.5, "mixup": 0.5, "paste": 2}
    )
    batch = loaded(joined, augment, side=96)
    plain = loaded([split], augment, side=96)
    true, theirs = Shown.of(3, [same], CPU).parted(torch.from_numpy(batch.labels))
    assert batch.images_BHWC.tobytes() == plain.images_BHWC.tobytes()
    for i in range(5):
        rows = batch.boxes_xyxy[i]
        taught = {
            (*rows[m].tolist(), int(theirs.labels[i, m]))
            for m in torch.nonzero(theirs.labels[i] >= 0)
        }
        own = {(*rows[m].tolist(), int(true[i, m])) for m in torch.nonzero(true[i] >= 0)}
        assert taught
        assert taught <= own  # what is pasted has a true box alone


def scene():
    generator = torch.Generator().manual_seed(2)
    grid = Grid(*anchor_points(64))
    logits = torch.randn(2, len(grid.centres), 3, generator=generator)
    bins = torch.randn(2, len(grid.centres), 4, REG_MAX + 1, generator=generator)
    truth = torch.stack([boxes(4, generator), boxes(4, generator)])
    labels = torch.tensor([[0, 1, 2, -1], [2, 2, -1, -1]])
    around = torch.cat([grid.centres - 8, grid.centres + 8], 1).expand(2, -1, -1)
    assignment = assign(
        logits.sigmoid(),
        around,
        grid.centres,
        truth,
        labels,
        torch.zeros(2, 4, dtype=torch.bool),
        tiny.RECIPE.assigner,
    )
    shown = torch.tensor([[0.9, 0.4, 0.7, 0.0], [0.3, 0.8, 0.0, 0.0]])
    return grid, logits, bins, truth, labels, assignment, shown


def test_what_is_shown_equals_the_slow_sum():
    grid, logits, bins, truth, labels, assignment, shown = scene()
    outputs = Outputs(logits, bins, (logits,) * 3)
    got = shown_losses(outputs, assignment, grid, shown, class_weight=0.7, box_weight=0.3)
    predicted = predicted_boxes(outputs, grid)
    classes = apart = mass = 0.0
    for image, anchor in assignment.positive.nonzero().tolist():
        true = assignment.boxes_xyxy[image, anchor]
        box = next(
            m for m in range(4) if torch.equal(truth[image, m], true) and labels[image, m] >= 0
        )
        q = float(shown[image, box]) * float(assignment.shares[image, anchor])
        p = float(logits[image, anchor, labels[image, box]].double().sigmoid())
        classes -= (q - p) ** 2 * (q * math.log(p) + (1 - q) * math.log(1 - p))
        apart += q * (1 - slow_giou(predicted[image, anchor].tolist(), true.tolist()))
        mass += q
    assert mass > 1
    assert got.item() == pytest.approx((0.7 * classes + 0.3 * apart) / mass, rel=1e-4)


def test_what_is_shown_by_finite_differences(monkeypatch):
    expected = losses.expected_distances
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    monkeypatch.setattr(losses, "expected_distances", lambda b, v: expected(b, v.to(b.dtype)))
    grid, logits, bins, *_, assignment, shown = scene()
    grid, logits = Grid(*(part.double() for part in grid)), logits.double()
    assignment = assignment._replace(
        boxes_xyxy=assignment.boxes_xyxy.double(), shares=assignment.shares.double()
    )
    leaf = bins.double().requires_grad_()

    def loss(logits, bins):
        outputs = Outputs(logits, bins, (logits,) * 3)
        weights = {"class_weight": 0.7, "box_weight": 0.3}
        return shown_losses(outputs, assignment, grid, shown.double(), **weights)

    assert gradcheck(lambda b: loss(logits, b), (leaf,), fast_mode=True)
    own = logits.clone().requires_grad_()
    loss(own, leaf.detach()).backward()
    image, anchor = assignment.positive.nonzero().unbind(1)
    label = assignment.labels[image, anchor]
    q = (shown.double().gather(1, assignment.owner) * assignment.shares)[image, anchor]
    p = logits.sigmoid()[image, anchor, label]
    wanted = torch.zeros_like(own)  # |q - p| ** 2 is held fixed
    wanted[image, anchor, label] = 0.7 * (q - p) ** 2 * (p - q) / q.sum()
    torch.testing.assert_close(own.grad, wanted, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_bins_are_softened_by_the_temperature(temperature):
    _, logits, bins, *_, assignment, _ = scene()
    theirs = Outputs(logits, bins.flip(0), (logits,) * 3)
    given = {"class_weight": 0.0, "box_weight": 1.0, "temperature": temperature}
    got = taught_losses(Outputs(logits, bins, (logits,) * 3), theirs, assignment, **given)
    total = 0.0
    for image, anchor in assignment.positive.nonzero().tolist():
        p, q = ((b[image, anchor].double() / temperature).softmax(-1) for b in (bins, bins.flip(0)))
        divergence = float((q * (q / p).log()).sum()) / 4
        total += divergence * float(assignment.scores[image, anchor])
    expected = temperature**2 * total / max(1.0, float(assignment.scores.sum()))
    assert got.item() == pytest.approx(expected, rel=1e-4)


def test_the_weight_fades_along_a_cosine():
    assert [faded(p, 0.2) for p in (0.0, 0.5, 1.0, 2.0)] == pytest.approx([1.0, 0.6, 0.2, 0.2])
    assert {faded(p, 1.0) for p in (0.0, 0.3, 1.0)} == {1.0}


def distillation(folder, shown=None, final_ratio=1.0):
    split = tiny.split_of(4)
    weights = tiny.PARAMS.distill.model_copy(update={"final_ratio": final_ratio})
    student = tiny.detector()
    if shown is None:
        backward = distilled(student, tiny.detector(), tiny.RECIPE, weights)
    else:
        split = with_detections([split], [shown])[0]
        backward = distilled_from_boxes(student, Shown.of(3, [shown], CPU), tiny.RECIPE, weights)
    training = Training(student, tiny.RECIPE, 5, folder, tiny.RUN, backward)
    return training, loaded([split], None, side=64)


@pytest.mark.parametrize("step", [0, 2, 4])
def test_a_training_fades_what_it_is_taught(tmp_path, step):
    found_twice = found(tiny.split_of(4))
    for shown in (None, found_twice):
        training, batch = distillation(tmp_path, shown, final_ratio=0.25)
        training.step = step
        training.module.train()
        terms = training.backward(training._on_device(batch))
        own = sum(terms[name] for name in ("class_loss", "softmax_loss", "box_loss", "dfl_loss"))
        weight = tiny.PARAMS.distill.feature_weight
        taught = terms["taught_loss"] + weight * terms.get("feature_loss", torch.tensor(0.0))
        part = {0: 1.0, 2: 0.625, 4: 0.25}[step]
        assert float(terms["total"]) == pytest.approx(float(own + part * taught), rel=1e-5)


def test_a_teacher_that_shows_nothing_changes_nothing(tmp_path):
    nothing = Detections(
        np.zeros(0, np.int64), np.zeros((0, 4), np.float32), np.zeros(0, np.float32),
        np.zeros(0, np.int64),
    )  # fmt: skip
    training, batch = distillation(tmp_path, nothing)
    training.module.train()
    terms = training.backward(TensorBatch(batch, CPU, 0))
    assert terms["taught_loss"] == 0
    assert torch.isfinite(terms["total"])
