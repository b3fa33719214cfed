"""What each stage of a run costs in seconds, its training aside.

A formula per stage over the rates of this device; where this device ran the stage before, the
formula is scaled by what it took then. Constants are of the smoke preset on two 2.6 GHz cores.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from frontier.files import read_json, write_json
from frontier.params import Params, parse_params
from pipelines.calibration import Rates

RUN = "start and end"  # Prefect, MLflow, DVC's questions, the registry: all that is no stage
RUN_S = 28.0
# What a stage takes beside its images and networks: imports of its own, figures, models on disk.
BESIDE_S = {
    "ingest": 2.0, "validate": 6.0, "pack": 1.0, "pretrain": 2.0, "teacher": 4.0,
    "pseudo_label": 0.5, "supernet": 2.0, "search": 3.0, "compare": 1.0, "distill": 3.0,
    "quantize": 3.0, "export": 2.5, "evaluate": 1.0, "report": 3.0,
}  # fmt: skip
READ_S = 0.015  # an image of a dataset, opened and checked, or drawn
PACK_S = 0.005
SETTLED = 16  # batches that settle a trained network's statistics
STARTS = 5  # architectures that every search evaluates and times: S, M, L, smallest, largest
EDITS = 10  # at most, from the baseline to the answer: eight stages, head, side
PARTS = 521  # networks that a device's latency table is made of
COMPOSED_S = 0.4  # such a network, put together, quantized and loaded
CROSSED = 6  # architectures of a frontier, timed on each other device
CANDIDATE_S = 1.5e-4  # one considered by the evolution
PLANS = 6  # whole quantization plans that are scored, and groups judged alone
RANKED = 16  # images that the output error of a group is measured on
GAIN_QUERIES = 100  # of each group's milliseconds, the reference's included
WITHIN = (0.2, 5.0)  # times the formula: beyond it an earlier run was of another kind
TRAININGS = ("pretrain", "teacher", "supernet", "distill")


class Images(NamedTuple):
    """How many there are of each split."""

    train: int
    val: int
    test: int
    unlabelled: int
    pretrain: int


@dataclass(frozen=True)
class Record:
    """What a stage took when it last ran on this device."""

    seconds: float
    params: Mapping[str, Any]
    images: list[int]


@dataclass(frozen=True)
class Costs:
    """Estimates for one device and dataset."""

    rates: Rates
    images: Images
    records: Mapping[str, Record]

    def seconds(self, stage: str, params: Params) -> float:
        """Of `search@onnxruntime-cpu` and the like, without what is trained in it."""
        return self._formula(stage, params, self.images) * self._scale(stage)

    def source(self, stage: str) -> str:
        """Where the number comes from."""
        return "an earlier run" if stage in self.records else "calibration"

    def _scale(self, stage: str) -> float:
        record = self.records.get(stage)
        if record is None:
            return 1.0
        then = parse_params(dict(record.params))
        formula = self._formula(stage, then, Images(*record.images))
        low, high = WITHIN
        return min(high, max(low, (record.seconds - trained_s(stage, then)) / formula))

    def _formula(self, stage: str, params: Params, images: Images) -> float:
        if stage == RUN:
            return RUN_S
        name, _, target = stage.partition("@")
        own = _FORMULAS[name](params, images, self.rates, target)
        return self.rates.stage_s + BESIDE_S[name] + own


def trained_s(stage: str, params: Params) -> float:
    """Seconds that `train.budget_s` gives to the training of a stage; 0 where there is none."""
    name = stage.partition("@")[0]
    if name not in TRAININGS or params.train.budget_s is None or skipped(stage, params):
        return 0.0
    return float(params.train.budget_s * getattr(params, name).share)


def skipped(stage: str, params: Params) -> bool:
    """Whether a training is left out: nothing is searched where the architecture is given."""
    return stage == "supernet" and params.architecture is not None


def _ingest(_params: Params, images: Images, _rates: Rates, _target: str) -> float:
    return READ_S * sum(images)


def _pack(_params: Params, images: Images, _rates: Rates, _target: str) -> float:
    return PACK_S * sum(images)


def _trained(params: Params, images: Images, rates: Rates, _target: str) -> float:
    """What comes behind a training: settled statistics, and a look at val."""
    return SETTLED * rates.batch_s + rates.detect_largest_s * images.val


def _teacher(params: Params, images: Images, rates: Rates, target: str) -> float:
    held_out = params.pack.holdout * images.train
    return _trained(params, images, rates, target) + rates.detect_largest_s * held_out


def _pseudo_label(_params: Params, images: Images, rates: Rates, _target: str) -> float:
    return rates.detect_largest_s * (images.val + images.unlabelled) if images.unlabelled else 0.0


def _nothing(_params: Params, _images: Images, _rates: Rates, _target: str) -> float:
    return 0.0


def _search(params: Params, images: Images, rates: Rates, target: str) -> float:
    if params.architecture is not None:
        return 2 * rates.timed_s[target]
    search = params.search
    starts = STARTS + len(search.seeds)
    rounds = 2 if search.compare_random else 1
    evaluated = max(search.evaluations, starts) * rounds + EDITS
    timed = starts + rounds * search.finalists + EDITS
    an_evaluation = (
        rates.evaluation_s
        + search.recalibration_batches * rates.batch_s
        + params.pack.holdout * images.train * rates.detect_s
    )
    considered = search.candidates if search.strategy == "evolution" else 0
    alone = search.audit_networks * search.audit_steps * rates.step_s["distill"]
    searched = evaluated * an_evaluation + timed * rates.timed_s[target]
    return searched + considered * CANDIDATE_S + alone + _table(params, rates, target)


def _table(params: Params, rates: Rates, target: str) -> float:
    """Of a device's first search; later ones have its table."""
    search = params.search
    if search.estimator == "whole":
        return 0.0
    networks = PARTS + search.calibration_models + search.held_out_models
    return networks * _composed_s(params, rates, target)


def _composed_s(params: Params, rates: Rates, target: str) -> float:
    queries = 2 * params.measure.blocks * params.measure.queries + params.measure.warmup
    return COMPOSED_S + queries * rates.query_s[target] / 2  # in INT8


def _compare(params: Params, _images: Images, rates: Rates, _target: str) -> float:
    others = len(params.searched) - 1
    return sum(CROSSED * others * _composed_s(params, rates, name) for name in params.searched)


def _quantize(params: Params, images: Images, rates: Rates, target: str) -> float:
    query_s = _query_s(params, rates, target)
    scored = PLANS * min(params.quantize.sensitivity_images, images.val) * (query_s + 0.002)
    calibrated = 3 * params.quantize.calibration_images * query_s
    ranked = rates.groups * (RANKED * query_s + 0.1)
    timed = rates.groups * GAIN_QUERIES * query_s if _searched(params, target) else 0.0
    return scored + calibrated + ranked + timed


def _export(params: Params, _images: Images, rates: Rates, target: str) -> float:
    timed = rates.timed_s[target] if _searched(params, target) else 0.0
    return timed + params.export.parity_images * 3 * _query_s(params, rates, target)


def _evaluate(params: Params, images: Images, rates: Rates, target: str) -> float:
    if not _searched(params, target):
        return 0.0
    return 2 * images.test * (_query_s(params, rates, target) + 0.01)


def _searched(params: Params, target: str) -> bool:
    """Whether a target is timed here, as those are that are searched."""
    return target in params.searched


def _query_s(params: Params, rates: Rates, target: str) -> float:
    return rates.query_s[params.targets[target].like]


_FORMULAS: dict[str, Callable[[Params, Images, Rates, str], float]] = {
    "ingest": _ingest, "validate": _ingest, "pack": _pack, "pretrain": _trained,
    "teacher": _teacher, "pseudo_label": _pseudo_label, "supernet": _nothing, "search": _search,
    "compare": _compare,
    "distill": _trained, "quantize": _quantize, "export": _export, "evaluate": _evaluate,
    "report": _nothing,
}  # fmt: skip


# ---------------------------------------------------------------- what earlier runs took


def read_records(root: Path, fingerprint: str) -> dict[str, Record]:
    """By stage, of runs on this device."""
    path = _path(root)
    rows = read_json(path) if path.is_file() else {}
    return {
        stage: Record(row["seconds"], row["params"], row["images"])
        for stage, row in rows.items()
        if row["fingerprint"] == fingerprint
    }


def keep_records(
    root: Path, seconds: Mapping[str, float], params: Params, images: Images, fingerprint: str
) -> None:
    """Beside those of stages that did not run this time."""
    path = _path(root)
    rows = read_json(path) if path.is_file() else {}
    given = params.model_dump(mode="json", by_alias=True)
    for stage, taken in seconds.items():
        rows[stage] = {
            **asdict(Record(taken, given, [*images])),
            "fingerprint": fingerprint,
        }
    write_json(path, rows)


def _path(root: Path) -> Path:
    return root / ".work" / "durations.json"


def count_images(root: Path, params: Params) -> Images:
    """Of the dataset as it was last packed, or as it will be drawn; else guessed from its files."""
    given = params.ingest
    if given.source == "synthetic":
        drawn = given.synthetic
        return Images(drawn.train, drawn.val, drawn.test, drawn.unlabelled, given.pretrain.train)
    source = read_json(root / "data" / "source.json")
    unlabelled = len(source.get("unlabelled", {}).get("images", []))
    total = len(source["images"])
    share = given.made_split
    parts = (1 - 2 * share, share, share)
    packed = root / "data" / "pack" / "main" / "meta.json"
    if packed.is_file():
        splits = read_json(packed)["splits"]
        known = [
            splits["train"] + splits.get("holdout", 0),
            splits.get("val", 0),
            splits.get("test", 0),
        ]
        parts = tuple(count / sum(known) for count in known)
    train, val, test = (round(total * part) for part in parts)
    return Images(train, val, test, unlabelled, given.pretrain.train)
