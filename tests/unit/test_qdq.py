from collections import Counter

import numpy as np
import onnx
import pytest
import torch

from frontier.models.architecture import yolo_nas
from frontier.models.detector import Detector
from frontier.quantization import qdq
from frontier.quantization.plan import choose
from frontier.quantization.sensitivity import Gain, Sensitivity, output_error
from frontier.runtime.session import OnnxSession
from frontier.targets.network import export_network
from tests.standin import SIDE, Standin, scene

METHODS = ("minmax", "percentile", "entropy")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return onnx.load(export_network(Standin(), SIDE, tmp_path_factory.mktemp("q") / "n.onnx"))


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    squares = [scene(rng)[0] for _ in range(10)]
    return [square.transpose(2, 0, 1)[None].astype(np.float32) / 255 for square in squares]


@pytest.fixture(scope="module")
def ranges(model, images):
    return qdq.calibrate(model, images, "minmax")


def outputs(model, image):
    return OnnxSession(model.SerializeToString(), 1).run({"images_BCHW": image})


def optimised(model, tmp_path):
    """Operator counts of the graph that ONNX Runtime really runs."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.log_severity_level = 3
    ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node)


def test_groups_follow_the_modules_and_leave_the_output_region_out(model):
    found = qdq.groups(model)
    assert [*found] == [
        "backbone.stem",
        "backbone.stages.0",
        "backbone.stages.1",
        "backbone.last",
        "neck.down",
        "neck",
        "neck.mix",
        "head.0.class_conv",
        "head.0.box_conv",
    ]
    named = {node for nodes in found.values() for node in nodes}
    assert not [name for name in named if "pred" in name or "Softmax" in name]
    operators = {n.name: n.op_type for n in model.graph.node}
    assert Counter(operators[name] for name in found["backbone.stages.0"]) == {
        "Conv": 3,
        "Relu": 3,
        "Add": 1,
    }


@pytest.mark.parametrize("method", METHODS)
def test_calibration_covers_every_tensor_and_repeats(model, images, method):
    ranges = qdq.calibrate(model, images, method)
    assert ranges == qdq.calibrate(model, images, method)
    assert ranges.keys() >= qdq.random_ranges(model).keys()
    low, high = ranges["images_BCHW"]
    assert 0 <= low < 0.15
    assert 0.8 < high <= 1


@pytest.mark.parametrize("spelling", ["u8s8", "s8s8"])
def test_int8_stays_close_to_float(model, images, ranges, spelling):
    quantized = qdq.quantize(model, ranges, set(), spelling)
    onnx.checker.check_model(quantized)
    for image in images[:3]:
        expected, found = outputs(model, image), outputs(quantized, image)
        np.testing.assert_allclose(found["scores"], expected["scores"], atol=0.03)
        np.testing.assert_allclose(found["boxes_xyxy"], expected["boxes_xyxy"], atol=0.2)


@pytest.mark.parametrize("spelling", ["u8s8", "s8s8"])
def test_same_inputs_give_the_same_bytes(model, ranges, spelling):
    made = [qdq.quantize(model, ranges, {"neck"}, spelling) for _ in range(2)]
    assert made[0].SerializeToString() == made[1].SerializeToString()


def test_everything_between_input_and_output_region_runs_on_integers(model, ranges, tmp_path):
    counts = optimised(qdq.quantize(model, ranges, set(), "u8s8"), tmp_path)
    assert counts["QLinearConv"] == 13
    assert counts["QLinearAdd"] == 2
    assert counts["QLinearConcat"] == 1
    assert counts["QuantizeLinear"] == 1  # the image
    assert counts["DequantizeLinear"] == 2  # before the two prediction convolutions
    assert counts["Conv"] + counts["FusedConv"] == 3  # those and DFL


def test_float_groups_stay_float(model, ranges, tmp_path):
    names = set(qdq.groups(model))
    counts = optimised(qdq.quantize(model, ranges, names - {"backbone.stages.1"}, "u8s8"), tmp_path)
    assert counts["QLinearConv"] == 3
    untouched = qdq.quantize(model, ranges, names, "u8s8")
    assert untouched.SerializeToString() == model.SerializeToString()


def test_the_symmetric_spelling_has_no_zero_point_and_no_integer_bias(model, ranges):
    quantized = qdq.quantize(model, ranges, set(), "s8s8")
    tensors = {t.name: onnx.numpy_helper.to_array(t) for t in quantized.graph.initializer}
    zero_points = [value for name, value in tensors.items() if name.endswith("/zero_point")]
    assert zero_points
    assert all(value.dtype == np.int8 and not value.any() for value in zero_points)
    assert not [value for value in tensors.values() if value.dtype == np.int32]


def test_a_scalar_product_becomes_a_scale(model, ranges):
    quantized = qdq.quantize(model, ranges, set(), "u8s8")
    shortcuts = [n for n in quantized.graph.node if n.op_type == "Mul" and "stages" in n.name]
    assert not shortcuts
    # of a negative scalar, a scale cannot be made: the product stays
    negative = onnx.ModelProto()
    negative.CopyFrom(model)
    for tensor in negative.graph.initializer:
        if tensor.name.endswith("alpha"):
            value = onnx.numpy_helper.from_array(np.array([-0.9], np.float32), tensor.name)
            tensor.CopyFrom(value)
    kept = qdq.quantize(negative, ranges, set(), "u8s8")
    assert [n for n in kept.graph.node if n.op_type == "Mul" and "stages" in n.name]


def test_layers_that_share_a_bias_keep_their_own_scales(model, ranges):
    """The convolutions of the stand-in have equal biases, which the exporter stores once."""
    quantized = qdq.quantize(model, ranges, set(), "u8s8")
    scales = [t.name for t in quantized.graph.initializer if t.name.endswith("/bias/scale")]
    assert len(scales) == 13


def test_a_stem_over_blocks_of_pixels_gives_the_same_integers(images, tmp_path, monkeypatch):
    torch.manual_seed(0)
    detector = Detector(yolo_nas("s", 0.25, SIDE), 3).eval()
    model = onnx.load(export_network(detector.deploy(), SIDE, tmp_path / "n.onnx"))
    ranges = qdq.calibrate(model, images[:2], "minmax")
    over_blocks = qdq.quantize(model, ranges, set(), "u8s8")
    assert optimised(over_blocks, tmp_path)["SpaceToDepth"] == 1
    assert "SpaceToDepth" not in optimised(qdq.quantize(model, ranges, set(), "s8s8"), tmp_path)
    for float_groups in ({"backbone.stem"}, {"backbone.stem", "backbone.stages.0"}):
        kept = qdq.quantize(model, ranges, float_groups, "u8s8")
        assert "SpaceToDepth" not in optimised(kept, tmp_path)
    monkeypatch.setattr(qdq.stem, "over_blocks", lambda model: None)
    over_pixels = qdq.quantize(model, ranges, set(), "u8s8")
    for image in images[:3]:
        expected = outputs(over_pixels, image)
        for name, values in outputs(over_blocks, image).items():
            assert np.array_equal(values, expected[name])


def test_random_ranges_are_enough_to_build_what_is_timed(model, tmp_path):
    counts = optimised(qdq.quantize(model, qdq.random_ranges(model), set(), "u8s8"), tmp_path)
    assert counts["QLinearConv"] == 13


def test_output_error_is_zero_for_equal_outputs_and_grows():
    rng = np.random.default_rng(0)
    boxes = np.concatenate([rng.uniform(0, 20, (9, 2)), rng.uniform(30, 60, (9, 2))], 1)
    reference = [(boxes, rng.random((9, 3)))]
    moved = [[(boxes + shift, reference[0][1])] for shift in (0.0, 1.0, 5.0)]
    errors = [output_error(reference, found) for found in moved]
    assert errors[0] == 0
    assert errors[0] < errors[1] < errors[2]


def gain(ms, spread=0.01):
    return Gain(ms, (ms - spread, ms + spread))


def test_the_plan_takes_out_what_costs_most_ap_per_millisecond():
    cost = {"stem": 0.0, "wide": 0.02, "head": 0.03, "neck": 0.001}
    sensitivity = {name: Sensitivity(drop, drop) for name, drop in cost.items()}
    gains = {"stem": gain(-0.3), "wide": gain(1.0), "head": gain(0.1), "neck": gain(0.5)}

    def ap_of(float_groups):
        return 0.5 - sum(drop for name, drop in cost.items() if name not in float_groups)

    plan = choose(sensitivity, gains, ap_of, 0.5, max_ap_drop=0.022)
    assert [*plan.float_groups] == ["stem", "head"]
    assert "slower" in plan.float_groups["stem"]
    assert "most sensitive by AP drop" in plan.float_groups["head"]
    assert max(sensitivity, key=lambda name: sensitivity[name].ap_drop) == "head"
    tight = choose(sensitivity, gains, ap_of, 0.5, max_ap_drop=0.005)
    assert [*tight.float_groups] == ["stem", "head", "wide"]
    assert "2 groups float the AP drop was still 0.0210" in tight.float_groups["wide"]
    assert tight.ap == pytest.approx(0.499)
    assert tight.tried == {2: pytest.approx(0.479), 3: pytest.approx(0.499)}


@pytest.mark.parametrize("drops", [(None, None, None), (-0.01, 0.0, None), (-0.004, 0.0, 0.004)])
def test_without_an_ap_drop_the_output_error_names_the_most_sensitive(drops):
    errors = {"a": 0.1, "b": 0.3, "c": 0.2}
    sensitivity = {
        name: Sensitivity(drop, errors[name]) for name, drop in zip(errors, drops, strict=True)
    }
    gains = {"a": gain(-0.01, spread=0.05), "b": gain(0.9), "c": gain(0.2)}
    for given in (None, gains):
        plan = choose(sensitivity, given, lambda _: 0.5, 0.5, max_ap_drop=0.0)
        worst = "a" if given else "b"  # INT8 in `a` may save nothing, in `b` 0.9 ms
        assert [*plan.float_groups] == [worst]
        assert "most sensitive by output error" in plan.float_groups[worst]


def test_a_group_that_is_slower_and_most_sensitive_is_taken_out_once():
    sensitivity = {"a": Sensitivity(0.1, 0.1), "b": Sensitivity(0.0, 0.2)}
    gains = {"a": gain(-0.3), "b": gain(0.2)}
    plan = choose(sensitivity, gains, lambda _: 0.5, 0.5, max_ap_drop=0.0)
    assert [*plan.float_groups] == ["a"]


@pytest.mark.parametrize("needed", range(1, 41))
def test_the_fewest_groups_are_found_in_few_tries(needed):
    sensitivity = {f"{i:02}": Sensitivity(None, 1.0 - i / 100) for i in range(40)}
    tries = []

    def ap_of(float_groups):
        tries.append(len(float_groups))
        return 0.5 if len(float_groups) >= needed else 0.4

    plan = choose(sensitivity, None, ap_of, 0.5, max_ap_drop=0.01)
    assert [*plan.float_groups] == [*sensitivity][:needed]
    assert plan.ap == 0.5
    assert len(tries) == len(set(tries)) <= 11
