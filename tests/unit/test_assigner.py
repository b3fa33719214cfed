"""The assigner against a slow, obvious second one."""

import numpy as np
import pytest
import torch

from frontier.models.decoding import anchor_points
from frontier.training import assigner
from frontier.training.assigner import assign, power
from tests.oracles import ASSIGNER, TOP_K, assign_one, boxes, slow_assign, slow_reach

wanted = assigner._wanted


def unlike_images(seed):
    """Three images that share nothing but their anchors: predictions, scores, boxes, ignoring."""
    generator = torch.Generator().manual_seed(seed)
    centres, _ = anchor_points(64)
    truth = torch.stack([boxes(5, generator) for _ in range(3)])
    labels = torch.tensor([[0, 1, 2, 1, -1], [2, 2, -1, -1, -1], [1, 0, 0, 0, 1]])
    ignore = torch.tensor([[0, 0, 0, 1, 0], [0, 0, 0, 0, 0], [0, 1, 0, 1, 0]]).bool()
    reach = torch.tensor([8.0, 5.0, 12.0])[:, None, None]
    around = torch.cat([(centres - reach), (centres + reach)], 2)
    predicted = around + torch.randn(around.shape, generator=generator)
    scores = (
        torch.rand(3, len(centres), 3, generator=generator)
        * torch.tensor([1, 0.1, 0.5])[:, None, None]
    )
    return scores, predicted, centres, truth, labels, ignore


@pytest.mark.parametrize("at_once", [64, 2])
@pytest.mark.parametrize("seed", range(6))
def test_assigner_equals_the_slow_one(seed, at_once, monkeypatch):
    monkeypatch.setattr(assigner, "BOXES_AT_ONCE", at_once)
    scores, predicted, centres, truth, labels, ignore = unlike_images(seed)
    got = assign(scores, predicted, centres, truth, labels, ignore, ASSIGNER)
    for image in range(3):
        owners, target, share = slow_assign(
            scores[image].tolist(), predicted[image].tolist(), centres.tolist(),
            truth[image].tolist(), labels[image].tolist(), ignore[image].tolist(),
        )  # fmt: skip
        assert set(got.positive[image].nonzero().flatten().tolist()) == set(owners)
        for anchor, box in owners.items():
            assert got.labels[image, anchor] == labels[image, box]
            assert torch.equal(got.boxes_xyxy[image, anchor], truth[image, box])
        assert np.allclose(got.scores[image].numpy(), target, atol=1e-5)
        assert np.allclose(got.shares[image].numpy(), share, atol=1e-5)
        regions = [slow_reach(box) for box in truth[image][ignore[image]].tolist()]
        for anchor, (x, y) in enumerate(centres.tolist()):
            within = any(inside(x, y) for inside in regions)
            assert bool(got.ignored[image, anchor]) == (within and anchor not in owners)


@pytest.mark.parametrize("at_once", [1, 7, 64])
@pytest.mark.parametrize(("side", "count"), [(64, 5), (64, 150), (96, 64)])
def test_boxes_in_chunks_give_the_same_bits_as_all_at_once(side, count, at_once, monkeypatch):
    generator = torch.Generator().manual_seed(count)
    centres, _ = anchor_points(side)
    anchors = len(centres)
    predicted = torch.cat([centres - 8, centres + 8], 1) + torch.randn(
        2, anchors, 4, generator=generator
    )
    truth = torch.stack([boxes(count, generator, side) for _ in range(2)])
    labels = torch.randint(-1, 3, (2, count), generator=generator)
    ignore = torch.rand(2, count, generator=generator) < 0.1
    scores = torch.rand(2, anchors, 3, generator=generator)
    given = (scores, predicted, centres, truth, labels, ignore, ASSIGNER)
    monkeypatch.setattr(assigner, "BOXES_AT_ONCE", count)
    whole = assign(*given)
    monkeypatch.setattr(assigner, "BOXES_AT_ONCE", at_once)
    for name, one, other in zip(whole._fields, whole, assign(*given), strict=True):
        assert np.array_equal(np.asarray(one), np.asarray(other)), name
    assert whole.positive.sum() > 20


def test_a_box_meets_no_more_anchors_at_once_than_a_chunk_holds(monkeypatch):
    seen = []
    monkeypatch.setattr(
        assigner, "_wanted", lambda *given: seen.append(given[4].shape[1]) or wanted(*given)
    )
    centres, _ = anchor_points(64)
    truth = boxes(150, torch.Generator().manual_seed(0))[None]
    labels = torch.zeros(1, 150, dtype=torch.int64)
    predicted = torch.cat([centres - 8, centres + 8], 1)[None]
    assign(torch.full((1, 84, 1), 0.5), predicted, centres, truth, labels, labels.bool(), ASSIGNER)
    assert seen == [64, 64, 22]


@pytest.mark.parametrize("count", [1, 40])
def test_positives_are_those_of_the_mask_in_a_table_of_fixed_length(count):
    generator = torch.Generator().manual_seed(count)
    centres, _ = anchor_points(64)
    predicted = torch.cat([centres - 8, centres + 8], 1).expand(2, -1, -1)
    truth = boxes(count, generator).expand(2, -1, -1)
    labels = torch.zeros(2, count, dtype=torch.int64)
    scores = torch.rand(2, len(centres), 1, generator=generator)
    got = assign(scores, predicted, centres, truth, labels, labels.bool(), ASSIGNER)
    image, anchor, real = got.positives()
    assert len(real) == min(2 * len(centres), 2 * count * TOP_K)
    assert torch.equal(torch.stack([image, anchor], 1)[real], got.positive.nonzero())


@pytest.mark.parametrize("exponent", range(1, 9))
def test_a_power_is_the_product_of_so_many(exponent):
    base = torch.rand(1000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert torch.allclose(power(base, exponent), base**exponent, rtol=1e-14, atol=0)


def test_the_rules_decide_how_many_anchors_and_how_far():
    centres, _ = anchor_points(64)
    predicted = torch.cat([centres - 8, centres + 8], 1)
    fewer = ASSIGNER.model_copy(update={"top_k": 3})
    assert assign_one([8.0, 8.0, 40.0, 40.0], predicted).positive.sum() == 13
    assert assign_one([8.0, 8.0, 40.0, 40.0], predicted, rules=fewer).positive.sum() == 3
    near = ASSIGNER.model_copy(update={"min_reach_px": 0.0})
    assert not assign_one([29.0, 29.0, 34.0, 34.0], predicted, rules=near).positive.any()


def test_a_box_that_holds_no_cell_centre_is_learned_all_the_same():
    centres, _ = anchor_points(64)
    got = assign_one([29.0, 29.0, 34.0, 34.0], torch.cat([centres - 8, centres + 8], 1))
    assert got.positive.any()
    assert got.shares.max() == 1


def test_a_small_box_under_a_wide_first_guess_keeps_its_target():
    centres, _ = anchor_points(64)
    predicted = torch.cat([centres - 40, centres + 40], 1)  # IoU of 100 / 6400
    got = assign_one([27.0, 27.0, 37.0, 37.0], predicted)
    assert got.scores.max().item() == pytest.approx(100 / 6400, rel=1e-3)
