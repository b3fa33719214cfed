"""The detector: fused equals unfused, slices equal extractions, files round-trip."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from frontier.boxes import iou
from frontier.models.architecture import Architecture, SearchSpace, yolo_nas
from frontier.models.blocks import fuse
from frontier.models.decoding import BINS, anchor_points, decode_boxes, expected_overlap
from frontier.models.detector import Detector, load_detector, save_detector
from frontier.models.supernet import Supernet, load_supernet, recalibrate, save_supernet
from frontier.models.transfer import transfer

SPACE = SearchSpace(0.25, (64, 96, 128))
CLASSES = [{"category_id": i * 3 + 1, "name": f"class {i}"} for i in range(5)]


def randomise(module: nn.Module, seed: int = 0) -> nn.Module:
    """Trained-looking norms and a class bias that is not the prior, so that errors show."""
    generator = torch.Generator().manual_seed(seed)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_(0, 0.2, generator=generator)
            part.running_var.uniform_(0.5, 2, generator=generator)
            part.weight.data.uniform_(0.5, 1.5, generator=generator)
            part.bias.data.normal_(0, 0.2, generator=generator)
    return module.eval()


def images(count: int = 2, side: int = 96) -> torch.Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("block", ["q", "d"])
def test_deployed_equals_trained_form(block):
    code = f"w0.25-r96-h0.5-{block}2x32-{block}3x64c-" + "-".join(
        [f"{block}1x96", f"{block}2x192c", f"{block}2x64", f"{block}2x48c", f"{block}2x64", "q2x64"]
    )
    detector = randomise(Detector(Architecture.parse(code), 5))
    with torch.no_grad():
        outputs = detector(images())
        boxes, scores = detector.deploy()(images())
        features = detector.deploy().network(images())
    assert torch.allclose(features.logits, outputs.logits, atol=1e-4)
    assert torch.allclose(features.bins, outputs.bins, atol=1e-4)
    # a slow second form of mean and deviation: sums over the bins in float64
    p = outputs.bins.double().softmax(-1)
    mean = sum(p[..., i] * i for i in range(BINS))
    deviation = sum(p[..., i] * (i - mean) ** 2 for i in range(BINS)).sqrt()
    overlap = expected_overlap(mean, deviation).sqrt()
    assert torch.allclose(scores.double(), outputs.logits.double().sigmoid() * overlap, atol=1e-5)
    centres, strides = anchor_points(96)
    left_top, right_bottom = mean[..., :2] * strides, mean[..., 2:] * strides
    slow = torch.cat([centres - left_top, centres + right_bottom], -1)
    assert torch.allclose(boxes.double(), slow, atol=1e-2)
    assert boxes.shape == (2, 96**2 // 64 + 96**2 // 256 + 96**2 // 1024, 4)


WITH_DEPTHWISE = "w1-r64-h0.5-d2x32-d3x64c-d1x96-d2x192c-d2x64-d2x48c-d2x64-q2x64"


@pytest.mark.parametrize(
    "architecture",
    [*(yolo_nas(size, 1.0, 64) for size in "sml"), Architecture.parse(WITH_DEPTHWISE)],
    ids=["s", "m", "l", "d"],
)
def test_fused_equals_unfused_at_full_width(architecture):
    torch.manual_seed(0)
    detector = randomise(Detector(architecture, 3))
    # statistics that belong to the weights, or the deepest activations overflow
    recalibrate(detector, [images(4, 64), images(4, 64) * 0.5])
    detector.eval()
    exact = copy.deepcopy(detector).double()
    with torch.no_grad():
        expected = exact(images(2, 64).double())
        fused_exact = fuse(exact)(images(2, 64).double())
        fused = fuse(detector)(images(2, 64))
    for name in ("logits", "bins"):
        wanted = getattr(expected, name)
        assert wanted.std() > 1, "outputs that hardly vary show no error"
        torch.testing.assert_close(getattr(fused_exact, name), wanted, atol=1e-10, rtol=1e-10)
        # in standard deviations: random norms make outputs of thirty, and rounding with them
        off = (getattr(fused, name).double() - wanted) / wanted.std()
        assert off.abs().max() < 1e-4


@pytest.mark.parametrize("looseness", [0.0, 0.02, 0.05, 0.1, 0.2])
def test_the_expected_overlap_is_the_mean_iou_of_boxes_so_uncertain(looseness):
    """Monte Carlo: 20000 boxes with sides drawn around those of one of 6 by 4."""
    mean = torch.tensor([3.5, 1.5, 2.5, 2.5])
    deviation = looseness / 2 * torch.tensor([6.0, 4, 6, 4])
    drawn = mean + deviation * torch.randn(20000, 4, generator=torch.Generator().manual_seed(2))
    centre = torch.zeros(2)
    pairs = iou(decode_boxes(centre, mean[None]).numpy(), decode_boxes(centre, drawn).numpy())
    assert expected_overlap(mean, deviation).item() == pytest.approx(pairs.mean(), abs=0.015)


def test_a_box_without_extent_has_a_finite_overlap():
    found = expected_overlap(torch.zeros(1, 4), torch.ones(1, 4))
    assert 0 <= found.item() < 1e-6


def test_anchors_are_cell_centres():
    centres, strides = anchor_points(64)
    assert centres[0].tolist() == [4, 4]
    assert centres[1].tolist() == [12, 4]  # x first
    assert centres[64].tolist() == [8, 8]
    assert strides[[0, 63, 64, 80]].flatten().tolist() == [8, 8, 16, 32]


def test_extracted_subnet_equals_the_supernets_slice():
    torch.manual_seed(0)
    supernet = Supernet(SPACE, 5)
    generator = np.random.default_rng(5)
    for _ in range(4):
        architecture = SPACE.random(generator).at(96)
        detector = supernet.extract(architecture).train()
        with torch.no_grad():
            sliced = supernet(images(), architecture)
            own = detector(images())
        assert torch.allclose(sliced.logits, own.logits, atol=1e-5)
        assert torch.allclose(sliced.bins, own.bins, atol=1e-5)


def test_the_largest_subnet_is_the_largest_network():
    torch.manual_seed(0)
    largest = Detector(SPACE.largest, 5)
    supernet = Supernet(SPACE, 5)
    supernet.load_largest(largest)
    extracted = supernet.extract(SPACE.largest)
    for name, parameter in largest.named_parameters():
        assert torch.equal(extracted.get_parameter(name), parameter), name


def test_gradients_reach_only_the_slice():
    supernet = Supernet(SPACE, 5)
    outputs = supernet(images(), SPACE.smallest.at(96))
    outputs.logits.square().mean().backward()
    touched = {name for name, p in supernet.store.items() if p.grad is not None}
    assert any("/d0/" in name for name in touched)
    assert not any("/q0/" in name for name in touched)
    wide = supernet.store["backbone/stages/0/1/first/conv/weight"]
    hidden = SPACE.smallest.hidden(0)
    assert wide.grad[:hidden].abs().sum() > 0
    assert wide.grad[hidden:].abs().sum() == 0


def test_recalibrated_statistics_are_the_mean_over_batches():
    detector = Detector(SPACE.smallest.at(64), 5)
    batches = [images(4, 64), images(4, 64) * 0.5]
    recalibrate(detector, batches)
    stem = detector.backbone.stem
    with torch.no_grad():
        seen = [F.conv2d(b, stem.kernel(), stride=2, padding=1) for b in batches]
    expected = torch.stack([features.mean((0, 2, 3)) for features in seen]).mean(0)
    assert torch.allclose(stem.norm.running_mean, expected, atol=1e-5)


def test_files_round_trip(tmp_path):
    detector = randomise(Detector(SPACE.smallest, 5))
    save_detector(detector, CLASSES, tmp_path)
    loaded = load_detector(tmp_path)
    assert loaded.classes == CLASSES
    assert loaded.architecture == SPACE.smallest
    for name, value in detector.state_dict().items():
        assert torch.equal(loaded.module.state_dict()[name], value)
    supernet = Supernet(SPACE, 5)
    save_supernet(supernet, CLASSES, tmp_path)
    again, _ = load_supernet(tmp_path)
    assert all(torch.equal(again.store[n], p) for n, p in supernet.store.items())


def test_transfer_keeps_the_rows_of_shared_class_names(tmp_path):
    save_detector(randomise(Detector(SPACE.smallest, 5)), CLASSES, tmp_path)
    source = load_detector(tmp_path)
    wanted = [{"category_id": 1, "name": "class 3"}, {"category_id": 2, "name": "new"}]
    target = Detector(SPACE.smallest, 2)
    fresh = target.head[0].class_pred.weight.detach().clone()
    assert transfer(source, target, wanted) == ["class 3"]
    weights = target.head[0].class_pred.weight
    assert torch.equal(weights[0], source.module.head[0].class_pred.weight[3])
    assert torch.equal(weights[1], fresh[1])
    assert torch.equal(target.backbone.stem.conv3.weight, source.module.backbone.stem.conv3.weight)
