"""Train the largest network on the real labels; it teaches the ones that follow."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from frontier import tracking
from frontier.data.drawing import jpeg
from frontier.data.loading.packing import PackedSplit, load_meta, load_split
from frontier.files import atomic_write, write_json
from frontier.labeling import gallery
from frontier.labeling.noise import suspects
from frontier.metrics import Detections, coco_metrics
from frontier.models.detector import Detector, load_detector, save_detector
from frontier.models.inference import detect, truth_of
from frontier.models.transfer import transfer
from frontier.params import Evaluate, Run, Section, Space, Teacher, Train
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


def run(params: Params, inputs: Inputs, out: Path) -> dict[str, float]:
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
    quality = coco_metrics(truth_of(unseen["val"]), found["val"])
    write_json(out / "quality.json", quality)
    doubted = _doubt(unseen, found, [entry["name"] for entry in classes], out)
    metrics = {"AP": quality["AP"], "AP50": quality["AP50"], "loss": history[-1]["loss"]}
    return {**metrics, "label_suspects": doubted}


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
