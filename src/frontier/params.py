"""`params.yaml` as frozen models: one class per section, one bundle of sections per stage.

No field has a default: a value that can change a result stands in `params.yaml` or nowhere.
"""

import math
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import ruamel.yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from frontier.errors import UsageError, nearest
from frontier.values import (
    BatchSize,
    Count,
    Fraction,
    NonNegative,
    Pattern,
    Positive,
    PositiveFloat,
    Scale,
    Side,
    Width,
)


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Run(Section):
    seed: Count
    threads: Positive
    device: Literal["auto", "cpu", "cuda"]
    precision: Literal["float32", "bfloat16"]
    compile: Literal["auto", "never"]
    loader_workers: Count


class Workers(Section):
    """Who works on shards: `jobs` processes here, or all workers of the cluster at `address`."""

    backend: Literal["local", "dask", "ray"]
    jobs: Positive
    address: str | None

    @model_validator(mode="after")
    def _cluster_has_an_address(self) -> Self:
        if self.backend != "local" and self.address is None:
            raise ValueError(
                f"workers.address: backend {self.backend} needs the address of its cluster, "
                "such as tcp://host:8786 (dask) or ray://host:10001 (ray)"
            )
        return self


class Synthetic(Section):
    seed: Count
    train: Positive
    val: Positive
    test: Positive
    unlabelled: Count


class SyntheticPretrain(Section):
    source: str
    seed: Count
    train: Positive


class Ingest(Section):
    source: str
    format: Literal["auto", "coco", "objects365", "voc", "yolo"]
    unlabelled: str | None
    check_images: bool
    look_alike_bits: Annotated[int, Field(ge=0, le=16)]
    scenes: Pattern
    made_split: Annotated[float, Field(gt=0.0, lt=0.5)]
    synthetic: Synthetic
    pretrain: SyntheticPretrain


class Validate(Section):
    max_quarantined: Fraction
    max_faulty_images: Fraction
    max_empty: Fraction
    max_boxes: Positive
    min_side_px: PositiveFloat
    same_iou: Annotated[float, Field(ge=0.5, le=1.0)]
    tiny_px: NonNegative
    whole: PositiveFloat
    max_aspect: Annotated[float, Field(ge=1.0)]
    far: Fraction
    max_far: Fraction
    fits: Fraction
    max_drift: Fraction
    near_leak: Literal["critical", "warning"]
    min_boxes_per_class: Count


class Pack(Section):
    image_size: Side
    holdout: Annotated[float, Field(gt=0.0, lt=0.5)]
    store: Literal["auto", "array", "shards"]


class Space(Section):
    interface_width: Width
    image_sizes: Annotated[list[Side], Field(min_length=1, max_length=5)]


class Augment(Section):
    scale: Scale
    translate: Fraction
    degrees: Annotated[float, Field(ge=0.0, le=180.0)]
    shear: Annotated[float, Field(ge=0.0, le=45.0)]
    flip: Fraction
    hsv: tuple[Fraction, Fraction, Fraction]
    mosaic: Fraction
    mixup: Fraction
    paste: Count
    paste_margin: Fraction

    @property
    def scales(self) -> tuple[float, float]:
        """Least and most, once `auto` was settled (`batch_source`)."""
        assert self.scale != "auto"
        return self.scale


class LossWeights(Section):
    """Weights of the terms beside the varifocal loss, which weighs 1, and what shapes that.

    `background` and `focus` are the alpha and gamma of VarifocalNet (arXiv:2008.13367).
    """

    softmax: NonNegative
    box: NonNegative
    dfl: NonNegative
    class_balance: Fraction
    max_class_weight: Annotated[float, Field(ge=1.0)]
    background: NonNegative
    focus: NonNegative


class Assigner(Section):
    """Which anchors learn a box; the powers are the alpha and beta of TOOD (arXiv:2108.07755)."""

    top_k: Positive
    score_power: Positive
    iou_power: Positive
    min_reach_px: NonNegative


class Optimizer(Section):
    """What moves the matrices of hidden convolutions; everything else is AdamW's."""

    kind: Literal["muon", "adamw"]
    momentum: Annotated[float, Field(ge=0.0, lt=1.0)]
    update_rms: PositiveFloat


class Train(Section):
    budget_s: PositiveFloat | None
    batch_size: BatchSize
    max_batch_size: Positive
    learning_rate: PositiveFloat
    weight_decay: NonNegative
    warmup_steps: Count
    final_lr_ratio: Fraction
    ema_decay: Annotated[float, Field(ge=0.0, lt=1.0)]
    gradient_clip: PositiveFloat
    checkpoint_every: Positive
    score_every: Count
    score_images: Positive
    optimizer: Optimizer
    assigner: Assigner
    loss: LossWeights
    augment: Augment


class Length(Section):
    """How long a network is trained: `steps`, or its `share` of `train.budget_s` if set."""

    steps: Positive
    share: Fraction


class Pretrain(Length):
    pass


class Teacher(Length):
    onnx: str | None


class PseudoLabel(Section):
    precision: Fraction
    beta: PositiveFloat
    ignore_above: Fraction
    flip_iou: Fraction | None


class Supernet(Length):
    random_subnets: Count
    distill_weight: NonNegative


class Search(Section):
    strategy: Literal["evolution", "random", "bayesian", "grid"]
    evaluations: Positive
    explored: Fraction
    rounds: Positive
    finalists: Positive
    candidates: Positive
    population: Annotated[int, Field(ge=2)]
    compare_random: bool
    recalibration_batches: Positive
    estimator: Literal["whole", "table"]
    calibration_models: Positive
    held_out_models: Positive
    audit_networks: Count
    audit_steps: Positive
    objective: Literal["latency", "throughput"]
    batch_size: Positive
    max_latency_ms: PositiveFloat | None
    max_size_mb: PositiveFloat | None
    max_memory_mb: PositiveFloat | None
    min_ap: Fraction | None
    baseline: str
    seeds: list[str]

    @model_validator(mode="after")
    def _batches_are_for_throughput(self) -> Self:
        if self.objective == "latency" and self.batch_size != 1:
            raise ValueError(
                f"search.batch_size: latency is of one image, not of {self.batch_size}; set it to "
                "1, or search.objective to throughput"
            )
        return self


class Distill(Length):
    class_weight: NonNegative
    box_weight: NonNegative
    feature_weight: NonNegative
    temperature: PositiveFloat
    final_ratio: Fraction


class Quantize(Section):
    calibration_images: Positive
    calibration_method: Literal["minmax", "percentile", "entropy"]
    sensitivity_images: Positive
    max_ap_drop: Fraction


class Export(Section):
    parity_images: Positive
    max_ap_gap: Fraction


class Measure(Section):
    latency: Literal["fresh", "reuse"]
    warmup: Count
    blocks: Annotated[int, Field(ge=5)]
    queries: Positive
    max_drift: PositiveFloat


class Evaluate(Section):
    score_threshold: Fraction
    iou_threshold: Fraction
    vote_iou: Annotated[float, Field(ge=0.0, lt=1.0)]
    candidates: Positive
    max_detections: Positive

    @model_validator(mode="after")
    def _enough_candidates(self) -> Self:
        if self.candidates < self.max_detections:
            raise ValueError(
                f"evaluate.candidates: {self.candidates} anchors are fewer than "
                f"max_detections {self.max_detections}; raise them to that, or lower the latter"
            )
        return self


class Report(Section):
    examples: Count


class Target(Section):
    kind: Literal["onnxruntime-cpu", "openvino-cpu", "tensorrt"]
    like: str
    compute_capability: Literal[75, 80, 86, 89, 120] | None = None


class Params(Section):
    """All of `params.yaml`."""

    run: Run
    ingest: Ingest
    workers: Workers
    # pydantic's BaseModel owns the name `validate`
    validate_: Validate = Field(alias="validate")
    pack: Pack
    space: Space
    train: Train
    pretrain: Pretrain
    teacher: Teacher
    pseudo_label: PseudoLabel
    supernet: Supernet
    search: Search
    distill: Distill
    quantize: Quantize
    export: Export
    measure: Measure
    evaluate: Evaluate
    report: Report
    architecture: str | None
    searched: Annotated[list[str], Field(min_length=1)]
    targets: Annotated[dict[str, Target], Field(min_length=1)]

    @model_validator(mode="after")
    def _sections_agree(self) -> Self:
        problems = []
        if max(self.space.image_sizes) > self.pack.image_size:
            problems.append(
                f"space.image_sizes: {max(self.space.image_sizes)} is larger than pack.image_size "
                f"{self.pack.image_size}; raise pack.image_size or drop that resolution"
            )
        for name in self.searched:
            if name not in self.targets:
                problems.append(f"searched: no target {name!r}; there are {[*self.targets]}")
        for name, target in self.targets.items():
            if target.like not in self.searched:
                problems.append(
                    f"targets.{name}.like: {target.like!r} is not searched; "
                    f"use one of searched {self.searched}"
                )
        problems += self._shares_of_the_budget()
        if problems:
            raise ValueError("\n".join(problems))
        return self

    def _shares_of_the_budget(self) -> list[str]:
        """Every second of a budget belongs to one training; each searched target has a student."""
        trained = (
            ("pretrain", "supernet") if self.teacher.onnx else ("pretrain", "teacher", "supernet")
        )
        once = {name: getattr(self, name).share for name in trained}
        students = len(self.searched)
        total = sum(once.values()) + students * self.distill.share
        if self.train.budget_s is None or math.isclose(total, 1.0, abs_tol=1e-6):
            return []
        listed = [f"{name}.share {share:g}" for name, share in once.items()]
        listed.append(f"distill.share {self.distill.share:g} x {students} searched target(s)")
        return [f"train.budget_s: {' + '.join(listed)} is {total:g}; make the shares sum to 1"]


def load_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file safely.

    Raises:
        UsageError: missing, not YAML, or not a mapping; names file and line.
    """
    try:
        value = ruamel.yaml.YAML(typ="safe", pure=True).load(path.read_text())
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file") from None
    except (ruamel.yaml.error.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(value, dict):
        raise UsageError(f"{path}: must hold a mapping of sections")
    return value


def parse_params(values: dict[str, Any], origin: str = "params.yaml") -> Params:
    """Check every value at once.

    Raises:
        UsageError: lists every wrong key with the nearest valid name, every wrong value.
    """
    try:
        return Params.model_validate(values)
    except ValidationError as error:
        lines = explained(error, values, Params)
        raise UsageError(f"{origin}: {len(lines)} problem(s)\n  " + "\n  ".join(lines)) from None


def load_params(path: Path) -> Params:
    return parse_params(load_yaml(path), str(path))


def explained(error: ValidationError, values: dict[str, Any], model: Any) -> list[str]:
    """Every problem that `model` has with `values`, a line or more each, with the nearest key."""
    return [line for item in error.errors() for line in _explain(item, values, model)]


def _explain(item: Any, values: dict[str, Any], model: Any) -> list[str]:
    location = [str(part) for part in item["loc"]]
    key = ".".join(location) or "params"
    if item["type"] == "extra_forbidden":
        return [f"{key}: no such key; {nearest(location[-1], _fields_at(location[:-1], model))}"]
    if item["type"] == "missing":
        where = " (see the committed params.yaml for its meaning)" if model is Params else ""
        return [f"{key}: missing; add it{where}"]
    if item["type"] == "value_error":
        return str(item["ctx"]["error"]).splitlines()
    return [f"{key}: {item['msg']} (found {item['input']!r})"]


def _fields_at(location: list[str], model: Any) -> list[str]:
    for part in location:
        if isinstance(model, type) and issubclass(model, Section):
            by_key = {f.alias or n: f.annotation for n, f in model.model_fields.items()}
            model = by_key.get(part)
        elif part:  # a name inside `targets`
            model = Target
    if isinstance(model, type) and issubclass(model, Section):
        return [f.alias or n for n, f in model.model_fields.items()]
    return []
