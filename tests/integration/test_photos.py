"""What random pixels cannot show: the network on real photos. Skipped in a clone without them."""

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
    with torch.no_grad():
        expected = detector(images)
        fused = fuse(detector)(images)
    for name in ("logits", "bins"):
        torch.testing.assert_close(
            getattr(fused, name), getattr(expected, name), atol=1e-4, rtol=1e-4
        )
