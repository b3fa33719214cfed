"""Codes, costs and edits of the search space."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from frontier.errors import UsageError
from frontier.models.architecture import DEPTHS, HIDDENS, Architecture, SearchSpace, edits, yolo_nas
from frontier.models.blocks import fuse
from frontier.models.detector import Detector, cost

SPACE = SearchSpace(0.25, (128, 160, 192, 224, 256))


@pytest.mark.parametrize(
    ("size", "parameters_m", "gmac"),
    [("s", 12.17, 15.90), ("m", 31.89, 43.88), ("l", 41.99, 59.92)],
)
def test_yolo_nas_shapes_have_the_published_cost(size, parameters_m, gmac):
    with torch.device("meta"):  # no memory, no arithmetic
        network = fuse(Detector(yolo_nas(size, 1.0, 640), num_classes=80).eval())
    found_parameters, found_gmac = cost(network, 640)
    assert found_parameters / 1e6 == pytest.approx(parameters_m, rel=0.005)
    assert found_gmac == pytest.approx(gmac, rel=0.005)


@pytest.mark.parametrize("size", "sml")
def test_yolo_nas_shapes_are_members_of_the_space(size):
    for stage, depths, hiddens in zip(
        yolo_nas(size, 1.0, 640).stages, DEPTHS, HIDDENS, strict=True
    ):
        assert stage.depth in depths
        assert stage.hidden in hiddens


def test_the_space_has_about_4e14_members():
    assert pytest.approx(4.2e14, rel=0.02) == SPACE.size


vectors = st.tuples(*[st.integers(0, count - 1) for count in SPACE.genes()])


@given(vectors)
def test_a_code_names_one_architecture(vector):
    architecture = SPACE.decode(vector)
    assert Architecture.parse(architecture.code) == architecture
    assert SPACE.encode(architecture) == list(vector)


@given(vectors, vectors)
def test_edits_lead_from_start_to_end(first, second):
    start, end = SPACE.decode(first), SPACE.decode(second)
    walked = [architecture for _, architecture in edits(start, end)]
    assert ([start, *walked])[-1] == end
    assert len({start.code, *(a.code for a in walked)}) == len(walked) + 1


@pytest.mark.parametrize(
    "code",
    ["", "yolo", "w0.3-r192-h0.5", yolo_nas("s", 1.0, 640).code.replace("r640", "r641"),
     yolo_nas("s", 1.0, 640).code + "-q1x8", yolo_nas("s", 1.0, 640).code.replace("r6", "r06")],
)  # fmt: skip
def test_what_is_no_code_is_refused_with_an_example(code):
    with pytest.raises(UsageError, match=r"code|multiple of 32"):
        Architecture.parse(code)


def test_random_architectures_follow_the_generator():
    draw = [SPACE.random(np.random.default_rng(3)).code for _ in range(2)]
    assert draw[0] == draw[1]
