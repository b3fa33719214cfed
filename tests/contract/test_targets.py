"""What every target promises; a new one subclasses the suite and states its own fixtures."""

import gc
import sys
import types
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx
import psutil
import pytest
import torch

from frontier import params
from frontier.boxes import iou
from frontier.errors import StageFailed, TargetUnavailable, UsageError
from frontier.files import read_json
from frontier.models.architecture import yolo_nas
from frontier.models.detector import Detector
from frontier.quantization import qdq
from frontier.runtime.session import OnnxSession
from frontier.targets import TARGETS, target, tensorrt
from frontier.targets.network import export_network, full_model
from tests import sdk
from tests.standin import SIDE, Standin, scene

RULES = params.Evaluate(
    score_threshold=0.05, iou_threshold=0.5, vote_iou=0.4, candidates=500, max_detections=20
)
OTHER = {"u8s8": "s8s8", "s8s8": "u8s8"}


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    return export_network(Standin(), SIDE, tmp_path_factory.mktemp("net") / "network.onnx")


@pytest.fixture(scope="module")
def int8(network):
    """The INT8 network by spelling."""
    model = onnx.load(network)
    paths = {}
    for spelling in OTHER:
        paths[spelling] = network.with_name(f"{spelling}.onnx")
        ranges = qdq.random_ranges(model)
        onnx.save(qdq.quantize(model, ranges, set(), spelling), paths[spelling])
    return paths


def feeds(seed=0):
    return {"images_BCHW": np.random.default_rng(seed).random((1, 3, SIDE, SIDE), np.float32)}


class BuildContract:
    """For every target: it builds float and its own INT8, and refuses in words."""

    kind: str

    @pytest.fixture
    def made(self):
        return target(params.Target(kind=self.kind, like="x", compute_capability=75))

    def test_it_builds_float_and_int8(self, made, network, int8, tmp_path):
        for model in (network, int8[made.int8_spelling]):
            artifact = made.build(model, tmp_path)
            assert artifact == tmp_path / made.artifact
            assert artifact.stat().st_size > 1000

    def test_it_builds_a_detector_of_ours(self, made, tmp_path):
        """The stand-in's scores are plain; ours come through moments, roots and exponentials."""
        torch.manual_seed(0)
        detector = Detector(yolo_nas("s", 0.25, SIDE), 3).eval()
        exported = export_network(detector.deploy(), SIDE, tmp_path / "network.onnx")
        model = onnx.load(exported)
        spelled = qdq.quantize(model, qdq.random_ranges(model), set(), made.int8_spelling)
        onnx.save(spelled, tmp_path / "int8.onnx")
        for path in (exported, tmp_path / "int8.onnx"):
            assert made.build(path, tmp_path).stat().st_size > 1000

    def test_rubbish_is_refused_by_name(self, made, tmp_path):
        rubbish = tmp_path / "rubbish.onnx"
        rubbish.write_bytes(b"not a model")
        with pytest.raises(StageFailed, match=r"rubbish\.onnx.*refuses"):
            made.build(rubbish, tmp_path / "out")

    def test_a_target_that_cannot_be_timed_says_why(self, made):
        assert made.timeable == (made.unavailable() == "")


class RunContract(BuildContract):
    """For targets that run on this machine."""

    @pytest.fixture
    def session(self, made, network, tmp_path):
        return made.load(made.build(network, tmp_path), threads=1)

    def test_it_agrees_with_torch(self, session):
        import torch

        boxes, scores = Standin()(torch.from_numpy(feeds()["images_BCHW"]))
        found = session.run(feeds())
        np.testing.assert_allclose(found["boxes_xyxy"], boxes, atol=1e-3)
        np.testing.assert_allclose(found["scores"], scores, atol=1e-4)

    def test_it_repeats_itself(self, session):
        first, second = session.run(feeds()), session.run(feeds())
        assert all((first[name] == second[name]).all() for name in first)

    @pytest.mark.parametrize(
        "wrong",
        [
            {},
            {"other": np.zeros((1, 3, SIDE, SIDE), np.float32)},
            {"images_BCHW": np.zeros((2, 3, SIDE, SIDE), np.float32)},
            {"images_BCHW": np.zeros((1, 3, SIDE, SIDE + 1), np.float32)},
            {"images_BCHW": np.zeros((3, SIDE, SIDE), np.float32)},
            {"images_BCHW": np.zeros((1, 3, SIDE, SIDE), np.float64)},
        ],
    )
    def test_a_wrong_input_is_refused_by_name(self, session, wrong):
        with pytest.raises(UsageError, match="images_BCHW"):
            session.run(wrong)

    def test_three_threads_may_share_a_session(self, session):
        alone = [session.run(feeds(seed)) for seed in range(12)]
        with ThreadPoolExecutor(3) as pool:
            together = list(pool.map(lambda seed: session.run(feeds(seed)), range(12)))
        for one, other in zip(alone, together, strict=True):
            assert all((one[name] == other[name]).all() for name in one)

    def test_unloading_frees_memory(self, made, network, tmp_path):
        artifact = made.build(network, tmp_path)
        process = psutil.Process()

        def load_many():
            for _ in range(20):
                made.load(artifact, threads=1).run(feeds())
            gc.collect()
            return process.memory_info().rss

        first = load_many()
        assert load_many() - first < 20e6

    def test_a_detector_of_ours_agrees_with_torch(self, made, tmp_path):
        torch.manual_seed(0)
        deployed = Detector(yolo_nas("s", 0.25, SIDE), 3).eval().deploy()
        exported = export_network(deployed, SIDE, tmp_path / "network.onnx")
        found = made.load(made.build(exported, tmp_path), threads=1).run(feeds())
        boxes, scores = deployed(torch.from_numpy(feeds()["images_BCHW"]))
        np.testing.assert_allclose(found["boxes_xyxy"], boxes, atol=1e-3)
        np.testing.assert_allclose(found["scores"], scores, rtol=1e-4)


class FullModelContract(RunContract):
    """For targets whose artifact is the full model, with letterbox and suppression in its graph."""

    def test_its_full_model_finds_what_is_there_in_images_of_any_size(
        self, made, network, tmp_path
    ):
        full = full_model(network, SIDE, RULES, tmp_path / "full.onnx")
        session = made.load(made.build(full, tmp_path), threads=1)
        reference = OnnxSession(full, 1)
        for times in (1, 3, 5):
            image, boxes, labels = scene(np.random.default_rng(times), side=times * SIDE)
            found = session.run({"image": image})
            overlaps = iou(boxes, found["boxes_xyxy"])
            assert overlaps.max(axis=1).min() > 0.9
            assert (found["labels"][overlaps.argmax(axis=1)] == labels).all()
            cut = np.ascontiguousarray(image[: -times * 7])  # odd, and centred by the letterbox
            found, expected = session.run({"image": cut}), reference.run({"image": cut})
            assert len(found["scores"]) == len(expected["scores"]) > 0
            np.testing.assert_allclose(found["boxes_xyxy"], expected["boxes_xyxy"], atol=0.02)
            np.testing.assert_allclose(found["scores"], expected["scores"], atol=1e-4)


class TestOnnxRuntimeCpu(FullModelContract):
    kind = "onnxruntime-cpu"


class TestOpenVinoCpu(FullModelContract):
    kind = "openvino-cpu"

    def test_it_computes_in_float32(self, session, made):
        precision = session._compiled.get_property("INFERENCE_PRECISION_HINT")
        assert precision.to_string() == "f32"

    def test_without_its_package_it_says_what_to_install(self, made, network, monkeypatch):
        monkeypatch.setitem(sys.modules, "openvino", None)
        assert not made.timeable
        with pytest.raises(TargetUnavailable, match="pip install openvino"):
            made.load(network, threads=1)
        with pytest.raises(TargetUnavailable, match="pip install openvino"):
            made.build(network, network.parent)


class TestTensorRT(BuildContract):
    kind = "tensorrt"

    @pytest.fixture(autouse=True)
    def _sdk(self):
        sdk.tensorrt_rtx()

    def test_the_spelling_of_x86_is_refused(self, made, int8, tmp_path):
        with pytest.raises(StageFailed, match="parser refuses"):
            made.build(int8[OTHER[made.int8_spelling]], tmp_path)

    def test_the_manifest_says_what_the_engine_is_for(self, made, network, tmp_path):
        made.build(network, tmp_path)
        manifest = read_json(tmp_path / "engine.json")
        assert manifest["compute_capability"] == 75
        assert manifest["version"]
        assert manifest["inputs"] == {"images_BCHW": [1, 3, SIDE, SIDE]}
        assert manifest["outputs"]["scores"] == [1, 16, 3]

    @pytest.mark.skipif(tensorrt._has_gpu(), reason="there is a GPU here")
    def test_without_a_gpu_loading_says_what_is_missing(self, made, tmp_path):
        with pytest.raises(TargetUnavailable, match=r"no NVIDIA GPU.*pip install"):
            made.load(tmp_path / "model.engine", threads=1)

    def test_without_an_sdk_building_says_what_to_install(
        self, made, network, tmp_path, monkeypatch
    ):
        for name in tensorrt.SDKS:
            monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(TargetUnavailable, match=r'no SDK.*pip install -e "\.\[tensorrt\]"'):
            made.build(network, tmp_path)

    def test_an_sdk_that_cannot_build_here_makes_way_for_the_next(
        self, made, network, tmp_path, monkeypatch
    ):
        monkeypatch.setitem(sys.modules, "tensorrt", sdk_without_gpu("tensorrt"))
        made.build(network, tmp_path)
        assert read_json(tmp_path / "engine.json")["sdk"] == "tensorrt_rtx"
        monkeypatch.setitem(sys.modules, "tensorrt_rtx", sdk_without_gpu("tensorrt_rtx"))
        with pytest.raises(TargetUnavailable, match=r"tensorrt cannot .*35.*tensorrt_rtx cannot"):
            made.build(network, tmp_path)


def sdk_without_gpu(name):
    """What the full SDK does on a machine without a GPU."""

    def builder(logger):
        raise TypeError("CUDA initialization failure with error: 35")

    return types.SimpleNamespace(__name__=name, ILogger=object, Builder=builder)


def test_every_kind_of_target_has_its_suite():
    tested = {suite.kind for suite in (TestOnnxRuntimeCpu, TestOpenVinoCpu, TestTensorRT)}
    assert tested == set(TARGETS)
