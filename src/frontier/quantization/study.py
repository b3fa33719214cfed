"""Quantize a network by measurement: calibrate, weigh each group, plan, verify whole."""

import functools
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx

from frontier import tracking
from frontier.data.loading.packing import PackedSplit
from frontier.params import Evaluate, Measure, Quantize
from frontier.quantization import qdq
from frontier.quantization.plan import Plan, choose
from frontier.quantization.sensitivity import (
    Gain,
    Judge,
    Sensitivity,
    measure_gains,
    measure_sensitivity,
    prepare,
)
from frontier.targets.base import Target

# Groups whose AP is measured alone, to weigh it against their milliseconds: the others, with a
# smaller output error, cost less still.
JUDGED_ALONE = 3


class Study(NamedTuple):
    """What was measured of one network, and the plan that follows from it."""

    ranges: qdq.Ranges
    images: int
    few: int  # of the images: what the output error was measured on
    ap_float: float
    ap_all: float
    sensitivity: dict[str, Sensitivity]
    gains: dict[str, Gain] | None
    plan: Plan


class Photos(NamedTuple):
    """What a study looks at: ranges come from `train`, choices from `val`, at a side in pixels."""

    train: PackedSplit
    val: PackedSplit
    side: int


def study(
    model: onnx.ModelProto,
    photos: Photos,
    target: Target,
    quantize: Quantize,
    measure: Measure,
    rules: Evaluate,
    threads: int,
    records: Path,
) -> Study:
    """Measure what INT8 costs and gains in each group of `model` and choose a plan.

    Args:
        rules: which boxes are kept, as `evaluate` has it.
        records: where measurements of this device are recorded.
    """
    spelling = target.int8_spelling
    ranges = _calibrate(model, photos, quantize)
    count = min(quantize.sensitivity_images, len(photos.val))
    judge = Judge(photos.val.subset(np.arange(count)), photos.side, threads, rules)

    @functools.cache
    def ap_of(float_groups: frozenset[str]) -> float:
        return judge.ap(qdq.quantize(model, ranges, float_groups, spelling))

    ap_float, ap_all = ap_of(frozenset(qdq.groups(model))), ap_of(frozenset())
    tracking.log_progress(1, 4, f"AP float {ap_float:.3f}, all INT8 {ap_all:.3f}")
    # without milliseconds there is nothing to weigh AP against: the output error ranks alone
    alone = JUDGED_ALONE if target.timeable else 0
    sensitivity = measure_sensitivity(model, ranges, spelling, judge, ap_float, alone)
    tracking.log_progress(2, 4, "output error of each group measured")
    gains = None
    if target.timeable:
        gains = measure_gains(model, ranges, target, measure, threads, records)
        tracking.log_progress(3, 4, "milliseconds of each group measured")
    plan = choose(sensitivity, gains, ap_of, ap_float, quantize.max_ap_drop)
    tracking.log_progress(4, 4, f"{len(plan.float_groups)} groups stay float, AP {plan.ap:.3f}")
    return Study(ranges, count, len(judge.few), ap_float, ap_all, sensitivity, gains, plan)


def _calibrate(model: onnx.ModelProto, photos: Photos, quantize: Quantize) -> qdq.Ranges:
    count = min(quantize.calibration_images, len(photos.train))
    spread = np.linspace(0, len(photos.train) - 1, count).astype(int).tolist()
    images = prepare(photos.train, spread, photos.side)
    return qdq.calibrate(model, images, quantize.calibration_method)
