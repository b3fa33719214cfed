"""Pack, exported graph and `Letterbox` agree on where an image lies, at odd and extreme sizes."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest

from frontier.boxes import Letterbox
from frontier.models.suppression import OPSET, parse_graph, postprocess_model
from frontier.params import Evaluate
from frontier.runtime.openvino import OpenVinoSession
from frontier.runtime.session import OnnxSession
from frontier.targets import Session, network

SIDES = (64, 96, 224, 416, 640)
EXTREMES = [
    (1, 1), (1, 5000), (5000, 1), (2, 3001), (3, 4001), (7, 5), (639, 641), (641, 639), (31, 33),
    (1001, 999), (640, 640), (65, 64), (1, 2), (1081, 1919), (13, 1300),
]  # fmt: skip
# keeps the one box as it is: it votes for itself alone
RULES = Evaluate(
    score_threshold=0.01, iou_threshold=0.5, vote_iou=0.5, candidates=4, max_detections=4
)


def sizes(side: int) -> list[tuple[int, int]]:
    """(height, width) of 43 images, most of them odd, log-uniform in either."""
    rng = np.random.default_rng(side)
    drawn = np.exp(rng.uniform(0, np.log(700), (28, 2))).astype(int) | 1
    return EXTREMES + [(int(height), int(width)) for height, width in drawn]


def placed(
    side: int, runtime: Callable[..., Session] = OnnxSession
) -> Iterator[tuple[tuple[int, int], dict[str, np.ndarray]]]:
    """Each size, and where the exported graph puts an image of it."""
    graph = parse_graph(network._LETTERBOX, side=side, opset=OPSET)
    session = runtime(graph.SerializeToString(), 1)
    for size in sizes(side):
        yield size, session.run({"image": np.zeros((*size, 3), np.uint8)})


@pytest.mark.parametrize("runtime", [OnnxSession, OpenVinoSession])
@pytest.mark.parametrize("side", SIDES)
def test_the_graph_places_images_as_the_letterbox_does(
    side: int, runtime: Callable[..., Session]
) -> None:
    for size, found in placed(side, runtime):
        expected = Letterbox(size, side)
        assert found["pad"].tolist() == expected.pad_xyxy[[1, 0]].tolist(), size
        np.testing.assert_allclose(found["scale"], expected.scale_xyxy[[1, 0]], rtol=1e-6)
        assert found["size"].tolist() == list(size)
        # black on grey: the pixels lie where scale and padding say
        height, width = expected.new_hw
        black = np.argwhere(found["square"][0, 0] == 0)
        assert black.min(0).tolist() == [expected.top, expected.left], size
        assert (np.ptp(black, axis=0) + 1).tolist() == [height, width], size


@pytest.mark.parametrize("stored", [1, 1.5, 3])
@pytest.mark.parametrize("side", SIDES)
def test_a_packed_box_comes_back_from_the_graph_within_a_pixel(side: int, stored: float) -> None:
    """From the file to the store, from there to the network's side as in training, and back."""
    session = OnnxSession(postprocess_model(RULES).SerializeToString(), 1)
    rng = np.random.default_rng(side)
    for (height, width), found in placed(side):
        corners = np.sort(rng.uniform(0, 1, (2, 2)), axis=0) * (width, height)
        truth = np.array([[*corners[0], *corners[1]]], np.float32)
        store = round(side * stored / 32) * 32
        box = Letterbox((height, width), store).to_square(truth) * np.float32(side / store)
        got = session.run(
            {
                "network_boxes_xyxy": box[None], "network_scores": np.ones((1, 1, 1), np.float32),
                **{name: found[name] for name in ("size", "scale", "pad")},
            }
        )  # fmt: skip
        # to rounding, but where the store has another side: a pixel, the coarser of both
        off = np.abs(got["boxes_xyxy"] - truth)
        pixel = 0.01 if store == side else np.maximum(1, 1 / found["scale"][[1, 0, 1, 0]])
        assert (off <= pixel).all(), (height, width, off)
