"""A user's detector through the stages: taken as it is, and teaching by boxes and scores."""

from pathlib import Path

import numpy as np
import pytest
import torch

from frontier.files import read_json, write_json
from frontier.labeling import labelling
from frontier.labeling.description import describe_teacher
from frontier.models.detector import Detector, load_detector, save_detector
from frontier.models.supernet import Supernet, save_supernet
from frontier.params import load_params
from frontier.stages import Inputs, declaration, distill, supernet, teacher
from tests import tiny
from tests.unit.test_onnx_teacher import write_model, write_yaml

CHECKOUT = Path(__file__).parents[2]
PARAMS = load_params(CHECKOUT / "params.yaml")
TARGET = "onnxruntime-cpu"
BOXES = np.array([[10, 12, 60, 50], [50, 20, 90, 50]], np.float32)
SCORES = np.array([[0.9, 0, 0], [0, 0, 0.6]], np.float32)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project as far as `pretrain`, with a teacher of 64 x 96 px that always sees two objects."""
    pack = tmp_path / "data" / "pack" / "main"
    tiny.write_pack(pack, train=4, holdout=2, val=3)
    write_model(tmp_path / "model.onnx", BOXES[None], SCORES[None])
    write_yaml(tmp_path, classes=["a", "x", "c"])
    write_json(tmp_path / "data" / "teacher.json", describe_teacher(tmp_path, "teacher.yaml"))
    pretrained = tmp_path / "data" / "pretrain"
    pretrained.mkdir()
    torch.manual_seed(0)
    save_detector(Detector(tiny.SPACE.largest, 2).eval(), tiny.CLASSES[1:], pretrained)
    return tmp_path


def inputs(root: Path, name: str, target: str | None = None) -> Inputs:
    work = root / ".work" / name
    work.mkdir(parents=True, exist_ok=True)
    return Inputs(root, declaration(CHECKOUT, name, target).deps, target, work)


def recipe(**changes: object) -> dict:
    update = {"score_every": 0, "checkpoint_every": 100}
    train = tiny.RECIPE.model_copy(update=update)
    return {"run": tiny.RUN, "train": train, "evaluate": PARAMS.evaluate, **changes}


def take(root: Path) -> dict[str, float]:
    own = PARAMS.teacher.model_copy(update={"onnx": "teacher.yaml"})
    params = teacher.Params(**recipe(space=PARAMS.space, teacher=own, workers=PARAMS.workers))
    out = root / "data" / "teacher"
    out.mkdir()
    return teacher.run(params, inputs(root, "teacher"), out)


def test_it_is_taken_as_it_is_scored_and_its_classes_are_told(root, capsys):
    metrics = take(root)
    out = root / "data" / "teacher"
    assert metrics["classes_untaught"] == 1
    assert 0 <= metrics["AP"] <= 1
    assert (out / "teacher.onnx").read_bytes() == (root / "model.onnx").read_bytes()
    assert read_json(out / "quality.json")["AP50"] == metrics["AP50"]
    assert not (out / "history.csv").exists()
    told = capsys.readouterr().err
    assert "1 of 3 classes go untaught: b: no class of that name" in told


def test_the_supernet_then_starts_from_the_pretrained_network(root):
    take(root)
    start = supernet._start(inputs(root, "supernet"), tiny.CLASSES)
    pretrained = load_detector(root / "data" / "pretrain").module
    stem = "backbone.stem.conv3.weight"
    assert torch.equal(start.state_dict()[stem], pretrained.state_dict()[stem])
    assert start.num_classes == 3  # of which the pretrained one knows two


@pytest.mark.slow
def test_it_teaches_a_student_and_is_asked_once_for_each_image(root, monkeypatch):
    take(root)
    (root / "data" / "pseudo_label").mkdir()
    search, space = root / "data" / "search" / TARGET, tiny.SPACE
    code = space.smallest.at(64).code
    write_json(search / "search.json", {"recommended": {"architecture": code}})
    folder = root / "data" / "supernet"
    folder.mkdir()
    save_supernet(Supernet(space, 3), tiny.CLASSES, folder)
    asked, first = [], labelling.answer_portion

    def answered(question, start, stop, path):
        asked.append((question.split, start, stop))
        first(question, start, stop, path)

    monkeypatch.setattr(labelling, "answer_portion", answered)
    own = PARAMS.distill.model_copy(update={"steps": 6})  # three epochs of two steps
    params = distill.Params(**recipe(distill=own, workers=PARAMS.workers))
    (root / "one").mkdir()
    metrics = distill.run(params, inputs(root, "distill", TARGET), root / "one")
    assert np.isfinite(metrics["loss"])
    assert asked == [("train", 0, 4)]
    history = (root / "one" / "history.csv").read_text().splitlines()
    place = history[0].split(",").index("taught_loss")
    assert all(float(row.split(",")[place]) > 0 for row in history[1:])
