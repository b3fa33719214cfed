"""What random pixels cannot show: the network on real photos. Skipped in a clone without them."""

import copy
from pathlib import Path

import pytest
import torch

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
