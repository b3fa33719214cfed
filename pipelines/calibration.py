"""How fast this device is at what a run consists of: a few of each, timed in a process of its own.

A process of its own, since torch would stay in the flow's memory for hours.
"""

import hashlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from frontier.errors import StageFailed
from frontier.files import read_json, write_json
from frontier.params import Params, parse_params

if TYPE_CHECKING:
    from frontier.data.loading.packing import PackedSplit
    from frontier.models.supernet import Supernet
    from frontier.training.loop import TensorBatch, Terms

IMAGES = 32  # made up, of the size that a training reads
CLASSES = 10
RECALIBRATED = 2  # batches
ROUNDS = 4  # steps of each side
STARTED = ("import dvc.repo, dvc.cli", "import torch, frontier.stages.__main__")
SECTIONS = ("run", "pack", "space", "train", "supernet", "distill", "measure", "evaluate")


@dataclass(frozen=True)
class Rates:
    """Seconds on this device; `step_s` by training, `timed_s` and what follows by searched target.

    Attributes:
        stage_s: of a stage that has nothing to do: DVC, the interpreter, torch.
        detect_largest_s: an image through the largest network and suppression, in torch.
        detect_s: the same of a middling one.
        batch_s: a batch of recalibration.
        evaluation_s: an evaluation beside its images and batches.
        timed_s: a whole model, exported, quantized and timed in both precisions.
        query_s: an image through a middling network in the target's runtime.
        groups: layers of a network that are quantized together.
    """

    stage_s: float
    detect_largest_s: float
    detect_s: float
    batch_s: float
    evaluation_s: float
    step_s: dict[str, float]
    timed_s: dict[str, float]
    query_s: dict[str, float]
    groups: int


def rates(root: Path, params: Params, fingerprint: str) -> Rates:
    """Those of this device for these networks; measured once, then kept in `.work/`.

    Raises:
        StageFailed: the measurement failed; its last words.
    """
    given = params.model_dump(mode="json", by_alias=True)
    asked = {name: given[name] for name in (*SECTIONS, "searched")} | {
        "baseline": params.search.baseline
    }
    path = root / ".work" / "calibration" / f"{_digest([fingerprint, asked])}.json"
    if not path.is_file():
        _measure_beside(root, given, path)
    return Rates(**read_json(path))


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def _measure_beside(root: Path, given: dict[str, Any], path: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        wanted = Path(folder) / "params.json"
        write_json(wanted, given)
        command = [sys.executable, "-m", "pipelines.calibration", str(wanted), str(path)]
        ended = subprocess.run(command, cwd=root, capture_output=True, text=True)
    if ended.returncode:
        last = ended.stderr.strip().splitlines()[-1:] or ["no word"]
        raise StageFailed(f"--budget: timing this device failed: {last[0]}")


def measure(params: Params) -> Rates:
    """Times everything; minutes for large networks, seconds for those of the demo."""
    from frontier.models.architecture import SearchSpace
    from frontier.models.supernet import Supernet
    from frontier.training.loop import training_device

    device = training_device(params.run)
    space = SearchSpace(params.space.interface_width, tuple(params.space.image_sizes))
    supernet = Supernet(space, CLASSES).to(device)
    split = _split(params.pack.image_size)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        steps = _step_seconds(params, supernet, split, work)
        evaluation = _evaluation_seconds(params, supernet, split, work)
        timed = {name: _timed_seconds(params, supernet, name, work) for name in params.searched}
    return Rates(
        stage_s=_stage_seconds(),
        **evaluation,
        step_s=steps,
        timed_s={name: seconds for name, (seconds, _, _) in timed.items()},
        query_s={name: seconds for name, (_, seconds, _) in timed.items()},
        groups=max(groups for *_, groups in timed.values()),
    )


def _split(side: int) -> "PackedSplit":
    """Noise with three boxes an image: what it shows does not matter to the time."""
    import numpy as np

    from frontier.data.loading.packing import PackedSplit, StoredImages, stack_targets

    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (IMAGES, side, side, 3), np.uint8)
    corners = [rng.integers(0, side // 2, (3, 2)) for _ in range(IMAGES)]
    parts = [
        (np.hstack([own, own + side // 4]), rng.integers(0, CLASSES, 3), np.zeros(3))
        for own in corners
    ]
    return PackedSplit(
        StoredImages(pixels, np.arange(IMAGES)),
        CLASSES,
        np.arange(IMAGES),
        np.full((IMAGES, 2), side),
        *stack_targets(parts),
        "noise",
    )


def _step_seconds(
    params: Params, supernet: "Supernet", split: "PackedSplit", work: Path
) -> dict[str, float]:
    from frontier.training.recipes import distilled, sandwich, supervised

    space, device = supernet.space, next(supernet.parameters()).device
    largest = supernet.extract(space.largest).to(device)
    student = supernet.extract(space.baseline(params.search.baseline)).to(device)
    options = (params.supernet.random_subnets, params.supernet.distill_weight, params.run.seed)
    trained: dict[str, tuple[Any, Callable[[TensorBatch], Terms], tuple[int, ...]]] = {
        "teacher": (largest, supervised(largest, params.train), space.image_sides),
        "supernet": (supernet, sandwich(supernet, params.train, *options), space.image_sides),
        "distill": (
            student,
            distilled(
                student, supernet.extract(space.largest).to(device), params.train, params.distill
            ),
            (space.middle_side,),
        ),
    }
    found = {
        name: _steps(params, module, backward, sides, split, work / name)
        for name, (module, backward, sides) in trained.items()
    }
    return {**found, "pretrain": found["teacher"]}


def _steps(
    params: Params,
    module: Any,
    backward: "Callable[[TensorBatch], Terms]",
    sides: tuple[int, ...],
    split: "PackedSplit",
    work: Path,
) -> float:
    """Mean seconds of a step over the sides, of each the quickest but for the first."""
    from frontier.training.loop import Training
    from frontier.training.plan import ENDLESS, clock
    from frontier.training.sources import Sides, batch_source

    work.mkdir()
    source = batch_source([split], params.train, params.run, Sides(sides))
    if not source.batch_size:  # auto
        source = batch_source(
            [split], params.train.model_copy(update={"batch_size": 16}), params.run, Sides(sides)
        )
    training = Training(module, params.train, ENDLESS, work, params.run, backward)
    module.train()
    times: dict[int, list[float]] = {side: [] for side in sides}
    last = clock(params.run)
    for step, batch in enumerate(source(0, ROUNDS * len(sides))):
        training.advance(batch)
        now = clock(params.run)
        times[source.sides(step)].append(now - last)
        last = now
    return sum(min(own[1:]) for own in times.values()) / len(sides)


def _evaluation_seconds(
    params: Params, supernet: "Supernet", split: "PackedSplit", work: Path
) -> dict[str, float]:
    from frontier.models.inference import detect
    from frontier.search.accuracy import Scorer
    from frontier.training.plan import clock

    space, device = supernet.space, next(supernet.parameters()).device
    middling = space.baseline(params.search.baseline)

    def seconds(work: Callable[[], Any]) -> float:
        work()
        started = clock(params.run)
        work()
        return clock(params.run) - started

    def scorer(batches: int) -> Scorer:
        return Scorer(supernet, split, split, params.evaluate, batches, device)

    few, more = scorer(1), scorer(1 + RECALIBRATED)
    detectors = [
        few.recalibrated(supernet.extract(a).to(device)).deploy().to(device)
        for a in (space.largest, middling)
    ]
    sides = (space.largest.image_side, middling.image_side)
    largest_s, middling_s = (
        seconds(partial(detect, detector, split, side, params.evaluate)) / IMAGES
        for detector, side in zip(detectors, sides, strict=True)
    )
    short_s, long_s = (seconds(partial(own.score, middling)) for own in (few, more))
    batch_s = max(0.0, long_s - short_s) / RECALIBRATED
    return {
        "detect_largest_s": largest_s,
        "detect_s": middling_s,
        "batch_s": batch_s,
        "evaluation_s": max(0.0, short_s - batch_s - IMAGES * middling_s),
    }


def _timed_seconds(
    params: Params, supernet: "Supernet", name: str, work: Path
) -> tuple[float, float, int]:
    """Seconds of one model timed whole, those of a query, and its groups."""
    import onnx

    from frontier.quantization import qdq
    from frontier.search.latency import Stopwatch
    from frontier.targets import target

    space = supernet.space
    both = [space.baseline(params.search.baseline), space.seeds()[1], space.seeds()[2]]
    detectors = {a.code: supernet.extract(a).cpu() for a in dict.fromkeys(both)}
    started = time.perf_counter()
    measured = params.measure.model_copy(update={"latency": "fresh"})
    records = work / "records.jsonl"
    made = target(params.targets[name])
    stopwatch = Stopwatch(
        made, measured, params.run.threads, 1, memory=False, records=records, folder=work
    )
    timed = stopwatch.time(detectors, detectors[both[0].code], None)
    seconds = (time.perf_counter() - started) / len(timed)
    graph = onnx.load(work / f"{both[0].code}.onnx")
    return seconds, timed[both[0].code].float32.p50_ms / 1000, len(qdq.groups(graph))


def _stage_seconds() -> float:
    """The programs that every stage starts, once they were read from disk before."""
    return sum(min(_start_seconds(program) for _ in range(2)) for program in STARTED)


def _start_seconds(program: str) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
    return time.perf_counter() - started


if __name__ == "__main__":
    wanted, answer = map(Path, sys.argv[1:])
    write_json(answer, asdict(measure(parse_params(read_json(wanted)))))
