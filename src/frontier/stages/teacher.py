"""Train the largest network on the real labels, or take a user's ONNX detector as it is.

Either teaches the networks that follow.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from frontier import tracking
from frontier.data.drawing import jpeg
from frontier.data.loading.packing import PackedSplit, load_meta, load_split
from frontier.files import atomic_write, read_json, write_json
from frontier.labeling import gallery
from frontier.labeling.labelling import Question, ask
from frontier.labeling.noise import suspects
from frontier.labeling.teachers import take_onnx
from frontier.metrics import Detections, coco_metrics
from frontier.models.detector import Detector, load_detector, save_detector
from frontier.models.inference import detect, truth_of
from frontier.models.transfer import transfer
from frontier.params import Evaluate, Run, Section, Space, Teacher, Train, Workers
from frontier.stages import Inputs
from frontier.training.compiling import compile_on_gpu
from frontier.training.loop import training_device, write_history
from frontier.training.plan import Task, train
from frontier.training.recipes import supervised
from frontier.training.scoring import held_out_score
from frontier.training.sources import Sides, batch_source, settle

SUSPECTS = 100  # of each kind and split


class Params(Section):
    run: Run
    space: Space
    train: Train
    teacher: Teacher
    evaluate: Evaluate
    workers: Workers


def run(params: Params, inputs: Inputs, out: Path) -> dict[str, float]:
    if params.teacher.onnx is not None:
        return _take(params, inputs, out)
    pack = inputs.path("pack/main")
    device = training_device(params.run)
    pretrained = load_detector(inputs.path("pretrain"))
    classes = load_meta(pack).classes
    detector = Detector(pretrained.architecture, len(classes))
    kept = transfer(pretrained, detector, classes)
    tracking.log_params({"classes_kept_from_pretraining": ", ".join(kept) or "none"})
    detector.to(device)
    compile_on_gpu(detector, params.run)
    split = load_split(pack, "train")
    sides = Sides(tuple(params.space.image_sizes), params.run.seed + 1)
    source = batch_source([split], params.train, params.run, sides)
    backward = supervised(detector, params.train)
    unseen = {name: load_split(pack, name) for name in ("holdout", "val")}
    side, rules = detector.architecture.image_side, params.evaluate
    score = held_out_score(split, unseen["holdout"], side, params.train.score_images, rules)
    task = Task(detector, backward, source, params.train, params.run, inputs.work, score)
    history = train(task, params.teacher)
    settle(detector, split, side)
    save_detector(detector, classes, out)
    write_history(history, out / "history.csv")
    deployed = detector.deploy().to(device)
    found = {name: detect(deployed, own, side, rules) for name, own in unseen.items()}
    metrics = _account(unseen, found, [entry["name"] for entry in classes], out)
    return {**metrics, "loss": history[-1]["loss"]}


def _take(params: Params, inputs: Inputs, out: Path) -> dict[str, float]:
    """A user's detector: nothing is trained, but it is scored, and doubts labels, like one."""
    pack = inputs.path("pack/main")
    meta, threads = load_meta(pack), params.run.threads
    names = [entry["name"] for entry in meta.classes]
    manifest = read_json(inputs.path("teacher.json"))
    matching = take_onnx(inputs.root, manifest, names, out, meta.image_size)
    unseen = {name: load_split(pack, name) for name in ("holdout", "val")}
    questions = [
        Question(str(out), str(pack), name, None, "cpu", threads, params.evaluate)
        for name in unseen
    ]
    answers = [ask(question, inputs.work, params.workers) for question in questions]
    found = {name: answer.found for name, answer in zip(unseen, answers, strict=True)}
    metrics = _account(unseen, found, names, out)
    return {**metrics, "classes_untaught": len(matching.untaught)}


def _account(
    unseen: Mapping[str, PackedSplit],
    found: Mapping[str, Detections],
    names: Sequence[str],
    out: Path,
) -> dict[str, float]:
    """`quality.json`, and what it doubts."""
    quality = coco_metrics(truth_of(unseen["val"]), found["val"])
    write_json(out / "quality.json", quality)
    doubted = _doubt(unseen, found, names, out)
    return {"AP": quality["AP"], "AP50": quality["AP50"], "label_suspects": doubted}


def _doubt(
    splits: Mapping[str, PackedSplit],
    found: Mapping[str, Detections],
    names: Sequence[str],
    out: Path,
) -> int:
    """Write the labels worth a second look, of images that the network was not trained on."""
    finds = gallery.in_turns(
        gallery.Find(name, suspect)
        for name, split in splits.items()
        for suspect in suspects(truth_of(split), found[name], SUSPECTS)
    )
    write_json(out / "suspects.json", gallery.rows(finds, splits, names))
    if finds:
        atomic_write(out / "suspects.jpg", jpeg(gallery.picture(finds, splits, names)))
        tracking.log_artifact(out / "suspects.jpg", "figures")
    return len(finds)
