"""The stage that labels, and several processes that do it."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from frontier.data.loading.packing import ARRAYS, load_split, stack_targets, targets_path
from frontier.files import read_json, write_json
from frontier.labeling import labelling
from frontier.labeling.labelling import Question, ask
from frontier.labeling.review import REVIEW, read_review
from frontier.params import load_params
from frontier.stages import Inputs, declaration, pseudo_label
from pipelines import reviewing
from tests import tiny
from tests.catalogs import write_catalog

CHECKOUT = Path(__file__).parents[2]
COUNTS = {"holdout": 4, "val": 5, "test": 3, "unlabelled": 8}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}


@pytest.mark.slow
def test_several_processes_label_the_same(tmp_path, monkeypatch):
    teacher = tiny.write_teacher(tmp_path / "teacher", unlabelled=11)
    monkeypatch.setattr(labelling, "PORTION", 6)
    question = Question(
        str(teacher), str(teacher / "pack"), "unlabelled", 0.5, "cpu", 1, tiny.PARAMS.evaluate
    )
    for jobs in (1, 2):
        workers = tiny.PARAMS.workers.model_copy(update={"jobs": jobs})
        assert len(ask(question, tmp_path / str(jobs), workers).found.scores)
    assert contents(tmp_path / "1") == contents(tmp_path / "2")


@pytest.fixture
def inputs(tmp_path: Path) -> Inputs:
    """A project as `teacher` would leave it; the second unlabelled image is the third of test."""
    data = tmp_path / "data"
    tiny.write_teacher(data / "teacher", train=1)
    pack = data / "pack" / "main"
    tiny.write_pack(pack, **COUNTS)
    pixels = {name: np.load(pack / f"{name}.npy") for name in COUNTS}
    rng = np.random.default_rng(0)
    for images in pixels.values():  # one rectangle on black looks like another
        for image in images:
            image[16:112] = np.kron(rng.integers(0, 255, (6, 8, 3)), np.ones((16, 16, 1)))
    pixels["unlabelled"][1] = pixels["test"][2]
    for name, images in pixels.items():
        np.save(pack / f"{name}.npy", images)
    for name in ("holdout", "val"):
        believe(data / "teacher", pack, name)
    split = load_split(pack, "unlabelled")
    rows = []
    for i, image_id in enumerate(split.image_ids.tolist()):
        name = f"photo {i}.png"
        picture = tmp_path / "photos" / name
        picture.parent.mkdir(exist_ok=True)
        Image.fromarray(split.images[i][16:112]).resize((320, 240)).save(picture)
        size = {"width": 320, "height": 240, "declared_width": 320, "declared_height": 240}
        rows.append({"split": "unlabelled", "image_id": image_id, "file_name": name, **size})
    info = {"name": "x", "classes": tiny.CLASSES, "unlabelled_root": "photos", "image_root": "."}
    write_catalog(data / "ingest" / "catalog", info, rows, [])
    write_json(data / "review.json", {"verdicts": []})
    declared = declaration(CHECKOUT, "pseudo_label", None)
    return Inputs(tmp_path, declared.deps, None, tmp_path / "work")


def believe(teacher: Path, pack: Path, name: str) -> None:
    """Make true what the teacher sees in both looks, of each image the surest box."""
    question = Question(str(teacher), str(pack), name, 0.1, "cpu", 1, tiny.PARAMS.evaluate)
    answer = ask(question, pack.parent / "asked", tiny.PARAMS.workers)
    split, parts = load_split(pack, name), []
    for image_id in split.image_ids:
        own = np.flatnonzero((answer.found.image_id == image_id) & answer.twice)
        best = own[answer.found.scores[own].argsort()[-1:]]
        parts.append((answer.found.boxes_xyxy[best], answer.found.labels[best], [0] * len(best)))
    believed = split.with_targets(np.arange(len(split)), *stack_targets(parts))
    arrays = {key: np.ascontiguousarray(getattr(believed, key)) for key in ARRAYS}
    save_file(arrays, targets_path(pack, name))


def run(inputs: Inputs, name: str) -> Path:
    params = load_params(CHECKOUT / "params.yaml")
    own = params.pseudo_label.model_copy(update={"precision": 0.0, "flip_iou": 0.1})
    sections = {"run": tiny.RUN, "ingest": params.ingest, "workers": params.workers}
    out = inputs.root / name
    out.mkdir()
    sections["evaluate"] = params.evaluate
    pseudo_label.run(pseudo_label.Params(**sections, pseudo_label=own), inputs, out)
    return out


def test_the_stage_labels_audits_refuses_and_honours_a_review(inputs, rich_console):
    first = run(inputs, "first")
    audit = read_json(first / "audit.json")
    counts = audit["counts"]
    assert counts["images_in"] == 8
    assert counts["images_kept"] > 0
    assert counts["images_kept"] + counts["images_refused"] + counts["images_unsure"] == 8
    assert audit["refused"] == {"no-leak": 1}
    assert audit["refused_images"] == [{"image": "photo 1.png", "code": "no-leak"}]
    unlabelled = load_split(inputs.root / "data/pack/main", "unlabelled")
    kept = unlabelled.load_targets(first / "pseudo.safetensors")
    assert unlabelled.image_ids[1] not in kept.image_ids
    assert int((kept.ignore == 0).sum()) == counts["boxes_kept"]
    assert (first / "examples.jpg").stat().st_size > 1000
    assert contents(run(inputs, "again")) == contents(first)

    (inputs.root / "data" / "pseudo_label").symlink_to(first)
    reviewing.review(inputs.root, rich_console, 100)
    path = inputs.root / REVIEW
    assert "<figure>" in path.with_suffix(".html").read_text()
    header, *lines = path.read_text().splitlines()
    assert len(lines) == counts["boxes_kept"] + counts["boxes_ignored"]
    struck = next(i for i, line in enumerate(lines) if ",sure," in line)
    lines[struck] += "strike"
    path.write_text("\n".join([header, *lines]) + "\n")
    write_json(inputs.root / "data" / "review.json", {"verdicts": read_review(path)})
    second = read_json(run(inputs, "second") / "audit.json")["counts"]
    assert second["boxes_struck"] >= 1
    assert second["boxes_kept"] < counts["boxes_kept"]
    reviewing.review(inputs.root, rich_console, 100)
    assert "strike" in path.read_text()


@pytest.fixture
def rich_console():
    from rich.console import Console

    return Console(quiet=True)
