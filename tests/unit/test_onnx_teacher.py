"""Any ONNX detector by its description: untrusted files, every layout, wrong YAML, class names."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from frontier.errors import DataError, UsageError
from frontier.files import read_json, write_json
from frontier.labeling.description import describe_teacher, read_description
from frontier.labeling.onnx_detector import OnnxDetector, place
from frontier.labeling.teachers import match_classes, open_teacher, take_onnx
from frontier.labeling.untrusted import checked_model
from tests import tiny
from tests.oracles import slow_iou

SIZE = (64, 96)  # height, width
BASE: dict[str, Any] = {
    "model": "model.onnx", "image_size": [*SIZE], "colour": "rgb", "range": "0-255",
    "mean": [0, 0, 0], "std": [1, 1, 1], "place": "centre", "border": 114,
    "output": {"layout": "decoded", "format": "xyxy", "units": "pixels"},
    "classes": ["cat", "dog", "bird"],
}  # fmt: skip


def write_model(path: Path, *answers: np.ndarray, inputs: str = "image") -> Path:
    """A network that answers the same whatever it sees; its outputs hang on its input by x 0."""
    nodes = [
        helper.make_node("ReduceMean", [inputs], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
    ]
    constants = [numpy_helper.from_array(np.array(0, np.float32), "zero")]
    outputs = []
    for index, answer in enumerate(answers):
        name = f"out{index}"
        constants.append(numpy_helper.from_array(answer, f"c{index}"))
        kind = helper.np_dtype_to_tensor_dtype(answer.dtype)
        if answer.dtype == np.float32:
            nodes.append(helper.make_node("Add", [f"c{index}", "nothing"], [name]))
        else:
            nodes.append(helper.make_node("Identity", [f"c{index}"], [name]))
        outputs.append(helper.make_tensor_value_info(name, kind, answer.shape))
    given = helper.make_tensor_value_info(inputs, TensorProto.FLOAT, [1, 3, *SIZE])
    graph = helper.make_graph(nodes, "fixed", [given], outputs, constants)
    opsets = [helper.make_opsetid("", 13)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    return path


def write_yaml(folder: Path, **changes: Any) -> Path:
    path = folder / "teacher.yaml"
    write_json(path, {**BASE, **changes})  # JSON is YAML
    return path


def detector(folder: Path, *answers: np.ndarray, **changes: Any) -> OnnxDetector:
    write_model(folder / "model.onnx", *answers)
    described = read_description(write_yaml(folder, **changes))
    return OnnxDetector(checked_model(described.model), described.description, 1)


IMAGE = np.full((100, 200, 3), 7, np.uint8)  # of 64 x 96: scaled by .48 to 48 x 96, 8 px above
BOXES = np.array([[10, 12, 40, 30], [11, 13, 41, 31], [50, 20, 90, 50]], np.float32)
SCORES = np.array([[0.9, 0.1, 0], [0.8, 0, 0.3], [0, 0.6, 0]], np.float32)


def slow_expected(boxes: np.ndarray, scores: np.ndarray, *, suppressed: bool = False) -> list:
    """One pair of box and class at a time: greedy suppression, then back through the letterbox."""
    pairs = [
        (float(scores[i, k]), i, k) for i, k in np.ndindex(*scores.shape) if scores[i, k] > 0.001
    ]
    kept: list[tuple[float, int, int]] = []
    for score, i, k in sorted(pairs, key=lambda pair: (-pair[0], pair[1], pair[2])):
        rivals = [j for _, j, label in kept if label == k]
        if suppressed or all(slow_iou(boxes[i], boxes[j]) <= 0.65 for j in rivals):
            kept.append((score, i, k))
    back = lambda v, shift, most: min(max((float(v) - shift) / 0.48, 0), most)  # noqa: E731
    return [
        (
            score, k, back(boxes[i][0], 0, 200), back(boxes[i][1], 8, 100),
            back(boxes[i][2], 0, 200), back(boxes[i][3], 8, 100),
        )
        for score, i, k in kept
    ]  # fmt: skip


def check(found: Any, expected: list) -> None:
    got = [
        (float(score), int(label), *box.tolist())
        for box, score, label in zip(
            found.boxes_xyxy, found.scores, found.classes, strict=True
        )
    ]  # fmt: skip
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-3)


def spelled(boxes: np.ndarray, form: str, units: str) -> np.ndarray:
    rows = []
    for x1, y1, x2, y2 in boxes.tolist():
        row = (
            [x1, y1, x2, y2] if form == "xyxy" else [(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1]
        )
        by = [96, 64, 96, 64] if units == "normalised" else [1, 1, 1, 1]
        rows.append([v / b for v, b in zip(row, by, strict=True)])
    return np.array(rows, np.float32)


@pytest.mark.parametrize("form", ["xyxy", "cxcywh"])
@pytest.mark.parametrize("units", ["pixels", "normalised"])
@pytest.mark.parametrize("shape", ["two", "one", "turned", "objectness"])
def test_decoded_boxes_and_scores(tmp_path, form, units, shape):
    boxes = spelled(BOXES, form, units)
    sure = np.full((3, 1), 0.5, np.float32)
    answers = {
        "two": [boxes[None], SCORES[None]],
        "one": [np.concatenate([boxes, SCORES], 1)[None]],
        "turned": [np.concatenate([boxes, SCORES], 1).T[None].copy()],
        "objectness": [np.concatenate([boxes, sure, SCORES], 1)[None]],
    }[shape]
    output = {"layout": "decoded", "format": form, "units": units}
    found = detector(tmp_path, *answers, output=output)(IMAGE)
    check(found, slow_expected(BOXES, SCORES * (0.5 if shape == "objectness" else 1)))


@pytest.mark.parametrize("shape", ["one", "three", "three-flat"])
def test_detections_are_not_suppressed_again(tmp_path, shape):
    scores, labels = np.array([0.9, 0.8, 0.6], np.float32), np.array([0, 0, 1])
    boxes = spelled(BOXES, "cxcywh", "normalised")
    columns = [boxes, scores[:, None], labels[:, None].astype(np.float32)]
    answers = {
        "one": [np.concatenate(columns, 1)[None]],
        "three": [labels[None], boxes[None], scores[None]],
        "three-flat": [boxes, scores, labels],
    }[shape]
    output = {"layout": "detections", "format": "cxcywh", "units": "normalised"}
    spread = np.zeros((3, 3), np.float32)
    spread[np.arange(3), labels] = scores
    found = detector(tmp_path, *answers, output=output)(IMAGE)
    check(found, slow_expected(BOXES, spread, suppressed=True))
    assert len(found.scores) == 3


def test_padding_rows_of_a_fixed_number_of_detections_are_dropped(tmp_path):
    rows = np.array([[10, 12, 40, 30, 0.9, 1], [0, 0, 0, 0, 0, -1], [1, 1, 9, 9, 0.5, 3]])
    output = {"layout": "detections", "format": "xyxy", "units": "pixels"}
    found = detector(tmp_path, rows[None].astype(np.float32), output=output)(IMAGE)
    assert found.classes.tolist() == [1]


def test_a_yolox_grid_equals_the_slow_decoding(tmp_path):
    rng = np.random.default_rng(0)
    rows = rng.normal(0, 0.7, (96 * 64 // 1024 + 96 * 64 // 256, 8)).astype(np.float32)
    rows[:, 4:] = 1 / (1 + np.exp(-rows[:, 4:]))
    output = {"layout": "yolox", "strides": [16, 32]}
    found = detector(tmp_path, rows[None], output=output)(IMAGE)
    cells = [(x, y, s) for s in (16, 32) for y in range(64 // s) for x in range(96 // s)]
    boxes, scores = [], np.zeros((len(rows), 3))
    for i, (row, (x, y, s)) in enumerate(zip(rows.astype(np.float64), cells, strict=True)):
        cx, cy, w, h = (row[0] + x) * s, (row[1] + y) * s, np.exp(row[2]) * s, np.exp(row[3]) * s
        boxes.append([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2])
        best = max(range(3), key=lambda k, row=row: row[5 + k])
        scores[i, best] = row[4] * row[5 + best]
    expected = [
        row for row in slow_expected(np.array(boxes), scores) if row[4] > row[2] and row[5] > row[3]
    ]
    check(found, expected)


@pytest.mark.parametrize("colour", ["rgb", "bgr"])
@pytest.mark.parametrize("pixels", ["0-255", "0-1"])
@pytest.mark.parametrize("where", ["top-left", "centre", "stretch"])
def test_what_the_network_is_given(tmp_path, colour, pixels, where):
    mean, std = [0.4, 0.5, 0.6], [0.2, 0.3, 0.4]
    own = detector(
        tmp_path, BOXES[None], SCORES[None], colour=colour, range=pixels, mean=mean, std=std,
        place=where, border=10,
    )  # fmt: skip
    image = np.zeros((100, 200, 3), np.uint8)
    image[:] = (200, 100, 50)
    placed = place(image, own.description)
    seen = own._as_input(placed.pixels)
    assert seen.shape == (1, 3, 64, 96)
    order = (0, 1, 2) if colour == "rgb" else (2, 1, 0)
    scale = 255 if pixels == "0-1" else 1
    rows = {"top-left": slice(0, 48), "centre": slice(8, 56), "stretch": slice(0, 64)}[where]
    for channel in range(3):
        value = ((200, 100, 50)[order[channel]] / scale - mean[channel]) / std[channel]
        border = (10 / scale - mean[channel]) / std[channel]
        expected = np.full((64, 96), border)
        expected[rows] = value
        np.testing.assert_allclose(seen[0, channel], expected, rtol=1e-5)


def test_every_wrong_key_and_value_is_told_at_once(tmp_path):
    path = tmp_path / "teacher.yaml"
    wrong = {**BASE, "color": "bgr", "image_size": [64], "output": {"layout": "yolo"}}
    del wrong["colour"]
    write_json(path, wrong)
    with pytest.raises(UsageError) as told:
        read_description(path)
    text = str(told.value)
    assert "color: no such key; did you mean 'colour'?" in text
    assert "colour: missing" in text
    assert "image_size" in text
    assert "output.layout" in text
    assert f"model: {tmp_path / 'model.onnx'}: no such file" in text


def test_keys_that_do_not_fit_the_layout_are_told_with_missing_files(tmp_path):
    output = {"layout": "yolox", "format": "xyxy"}
    path = write_yaml(tmp_path, output=output, classes="names.txt")
    with pytest.raises(UsageError) as told:
        read_description(path)
    text = str(told.value)
    assert "4 problem(s)" in text
    assert "output.strides: missing; layout yolox needs it" in text
    assert "output.format: says nothing of layout yolox; remove it" in text
    assert f"classes: {tmp_path / 'names.txt'}: no such file" in text


def test_names_come_from_a_file_and_none_stands_twice(tmp_path):
    write_model(tmp_path / "model.onnx", BOXES[None], SCORES[None])
    (tmp_path / "names.txt").write_text("cat\n\n dog \nbird\n")
    read = read_description(write_yaml(tmp_path, classes="names.txt")).description
    assert read.classes == ["cat", "dog", "bird"]
    with pytest.raises(UsageError, match="'cat' stands twice"):
        read_description(write_yaml(tmp_path, classes=["cat", "dog", "cat"]))


def test_outputs_that_are_not_of_the_layout_are_told(tmp_path):
    with pytest.raises(UsageError, match=r"\[1, 3, 7\].*layout yolox.*3 classes"):
        detector(
            tmp_path, np.zeros((1, 3, 7), np.float32), output={"layout": "yolox", "strides": [8]}
        )(IMAGE)
    with pytest.raises(UsageError, match="image_size says"):
        detector(tmp_path, BOXES[None], SCORES[None], image_size=[32, 32])


def test_classes_are_matched_by_name():
    found = match_classes(["Cat", "tv  monitor", "dog"], ["dog", "TV monitor", "horse"])
    assert found.label_of.tolist() == [-1, 1, 0]
    assert found.untaught == ["horse"]
    assert found.unused == ["Cat"]


def test_a_teacher_answers_in_stored_pixels_and_labels_of_the_dataset(tmp_path):
    write_model(tmp_path / "model.onnx", BOXES[None], SCORES[None])
    write_yaml(tmp_path, classes=["x", "c", "a"])
    manifest = describe_teacher(tmp_path, "teacher.yaml")
    out = tmp_path / "out"
    out.mkdir()
    matching = take_onnx(tmp_path, manifest, ["a", "b", "c"], out, stored_px=128)
    assert matching.untaught == ["b"]
    assert read_json(out / "teacher.json")["untaught"] == ["b"]
    teacher = open_teacher(out, ["a", "b", "c"], device=None, threads=1, rules=None)
    split = tiny.split_of(1)  # 240 x 320, stored as 96 x 128 from row 16 on
    plain, mirrored = teacher.detect(split), teacher.detect(split, mirrored=True)
    assert plain.labels.tolist() == [2, 0, 2]  # c of .6, a of .3, c of .1; x is no class of ours
    # the input shows 64 x 85 of the stored picture from column 5 on: 2 / 3 of its size
    scale_y, scale_x = 64 / 96, 85 / 128
    box = BOXES[2]
    expected = [
        (box[0] - 5) / scale_x,
        box[1] / scale_y + 16,
        (box[2] - 5) / scale_x,
        box[3] / scale_y + 16,
    ]
    np.testing.assert_allclose(plain.boxes_xyxy[0], expected, rtol=1e-4)
    np.testing.assert_allclose(
        mirrored.boxes_xyxy[0, [2, 0]], 128 - plain.boxes_xyxy[0, [0, 2]], rtol=1e-4
    )


def test_a_teacher_of_other_classes_is_refused(tmp_path):
    write_model(tmp_path / "model.onnx", BOXES[None], SCORES[None])
    write_yaml(tmp_path)
    manifest = describe_teacher(tmp_path, "teacher.yaml")
    with pytest.raises(DataError, match=r"none of its classes.*\n.*cats: .*did you mean 'cat'"):
        take_onnx(tmp_path, manifest, ["cats", "dogs"], tmp_path, stored_px=128)


def external(model: onnx.ModelProto, **entries: str) -> onnx.ModelProto:
    tensor = model.graph.initializer[1]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=value)
    return model


def looping(model: onnx.ModelProto, trips: int | None) -> onnx.ModelProto:
    names = [("i", TensorProto.INT64, []), ("c", TensorProto.BOOL, [])]
    body = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["d"])], "body",
        [helper.make_tensor_value_info(*name) for name in names],
        [helper.make_tensor_value_info("d", TensorProto.BOOL, [])],
    )  # fmt: skip
    if trips is None:
        model.graph.node.append(helper.make_node("Size", ["image"], ["trips"]))
    else:
        model.graph.initializer.append(numpy_helper.from_array(np.array(trips), "trips"))
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "go"))
    model.graph.node.append(helper.make_node("Loop", ["trips", "go"], [], body=body))
    return model


def custom(model: onnx.ModelProto) -> onnx.ModelProto:
    model.graph.node.append(helper.make_node("Steal", ["image"], ["x"], domain="com.evil"))
    return model


ATTACKS = {
    "outside": (lambda m: external(m, location="../secret"), "must stay inside"),
    "absolute": (lambda m: external(m, location="/etc/passwd"), "must stay inside"),
    "link": (lambda m: external(m, location="link"), "leads outside"),
    "huge": (lambda m: external(m, location="data", length=str(2**62)), "ends beyond"),
    "negative": (lambda m: external(m, location="data", offset="-8"), "whole numbers from 0"),
    "unknown-key": (lambda m: external(m, location="data", run="sh"), "unknown key 'run'"),
    "absent": (lambda m: external(m, location="none"), "no such file"),
    "loop": (lambda m: looping(m, 10**9), "1000000000 passes"),
    "endless-loop": (lambda m: looping(m, None), "not a constant"),
    "domain": (custom, "domain 'com.evil'"),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_an_untrusted_model_is_refused_before_any_session(tmp_path, monkeypatch, name):
    import onnxruntime

    monkeypatch.setattr(onnxruntime, "InferenceSession", None)
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "secret").write_bytes(b"\0" * 64)
    (folder / "data").write_bytes(b"\0" * 64)
    (folder / "link").symlink_to(tmp_path / "secret")
    change, told = ATTACKS[name]
    path = write_model(folder / "model.onnx", BOXES[None], SCORES[None])
    onnx.save(change(onnx.load(path)), path)
    with pytest.raises(UsageError, match=told):
        checked_model(path)
    write_yaml(folder)
    with pytest.raises(UsageError, match=r"teacher\.onnx: "):
        describe_teacher(folder, "teacher.yaml")


@pytest.mark.parametrize("content", [b"", b"\0\1\2", b"not an onnx file" * 9])
def test_what_is_no_model_is_told(tmp_path, content):
    (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(UsageError, match=r"not an ONNX model|holds no graph"):
        checked_model(tmp_path / "model.onnx")


def test_a_model_with_data_beside_it_comes_in_one_piece(tmp_path):
    path = write_model(tmp_path / "whole.onnx", BOXES[None], SCORES[None])
    model = onnx.load(path)
    onnx.save(
        model,
        tmp_path / "model.onnx",
        save_as_external_data=True,
        size_threshold=0,
        location="w.bin",
    )
    assert (tmp_path / "w.bin").stat().st_size > 0
    content = checked_model(tmp_path / "model.onnx")
    (tmp_path / "w.bin").unlink()
    described = read_description(write_yaml(tmp_path)).description
    check(OnnxDetector(content, described, 1)(IMAGE), slow_expected(BOXES, SCORES))
