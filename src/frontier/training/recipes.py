"""What each kind of training computes per batch: supervised, sandwich, distilled."""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from frontier.models.architecture import Architecture
from frontier.models.detector import Detector, Outputs
from frontier.models.supernet import Supernet
from frontier.params import Distill, Train
from frontier.training import ranks
from frontier.training.assigner import Assignment
from frontier.training.loop import TensorBatch, Terms
from frontier.training.losses import (
    Losses,
    assignment_of,
    detection_losses,
    shown_losses,
    taught_losses,
)
from frontier.training.taught import Shown


def _assign(outputs: Outputs, batch: TensorBatch, recipe: Train) -> Assignment:
    truth = (batch.boxes_xyxy, batch.labels, batch.ignore)
    return assignment_of(outputs, batch.grid, *truth, recipe.assigner)


def _terms(losses: Losses, **more: Tensor) -> Terms:
    named = {"total": losses.total, **losses._asdict(), **more}
    return {name: value.detach() for name, value in named.items()}


def supervised(detector: Detector, recipe: Train) -> Callable[[TensorBatch], Terms]:
    """Learning from boxes alone."""

    def backward(batch: TensorBatch) -> Terms:
        outputs = detector(batch.images_BCHW)
        assignment = _assign(outputs, batch, recipe)
        losses = detection_losses(outputs, assignment, batch.grid, recipe.loss)
        losses.total.backward()
        return _terms(losses)

    return backward


def sandwich(
    supernet: Supernet, recipe: Train, random_subnets: int, distill_weight: float, seed: int
) -> Callable[[TensorBatch], Terms]:
    """Largest + smallest + random subnets a step, the largest teaching the others in place.

    The assigner runs once, on the largest; all share its assignment. Random subnets are drawn
    stratified by cost: uniform choices would pile up at middling cost.

    Reference: BigNAS (arXiv:2003.11142); AttentiveNAS (arXiv:2011.09011).
    """
    space = supernet.space

    def backward(batch: TensorBatch) -> Terms:
        largest = supernet(batch.images_BCHW, space.largest)
        assignment = _assign(largest, batch, recipe)
        losses = detection_losses(largest, assignment, batch.grid, recipe.loss)
        losses.total.backward()
        teacher = Outputs(largest.logits.detach(), largest.bins.detach(), largest.features)
        taught = losses.total.new_zeros(())
        for architecture in [space.smallest, *_strata(supernet, random_subnets, seed, batch.step)]:
            outputs = supernet(batch.images_BCHW, architecture)
            own = detection_losses(outputs, assignment, batch.grid, recipe.loss)
            loss = own.total + distill_weight * taught_losses(outputs, teacher, assignment)
            loss.backward()
            taught = taught + loss.detach()
        return _terms(losses, subnet_loss=taught / (1 + random_subnets))

    return backward


def _strata(supernet: Supernet, count: int, seed: int, step: int) -> list[Architecture]:
    """`count` random subnets, one from each cost stratum of a larger draw."""
    generator = np.random.default_rng((seed, step))
    drawn = [supernet.space.random(generator) for _ in range(4 * count)]
    drawn.sort(key=_capacity)
    return [drawn[4 * i + int(generator.integers(4))] for i in range(count)]


def _capacity(architecture: Architecture) -> float:
    """A cheap stand-in for cost that only orders: depth x hidden width squared, summed."""
    return sum(
        s.depth * s.hidden**2 * (1.0 if s.block == "q" else 0.15) for s in architecture.stages
    )


def distilled(
    student: Detector, teacher: nn.Module, recipe: Train, weights: Distill
) -> Callable[[TensorBatch], Terms]:
    """Learning from boxes and from a teacher: classes, bins and neck features.

    Scores and bins are taken at the teacher's own positives. The neck's interfaces are equal
    across a space, so features compare without adapters: channel-wise normalised, mean squared
    error.

    Reference: Hinton et al. 2015 (arXiv:1503.02531); PKD, Cao et al. 2022 (arXiv:2207.02039).
    """
    teacher.eval().requires_grad_(False)

    def backward(batch: TensorBatch) -> Terms:
        with torch.no_grad():
            taught_by = teacher(batch.images_BCHW)
        outputs = student(batch.images_BCHW)
        assignment = _assign(outputs, batch, recipe)
        losses = detection_losses(outputs, assignment, batch.grid, recipe.loss)
        taught = taught_losses(
            outputs,
            taught_by,
            _assign(taught_by, batch, recipe),
            class_weight=weights.class_weight,
            box_weight=weights.box_weight,
            temperature=weights.temperature,
        )
        features = feature_distance(outputs, taught_by) / ranks.count()
        fading = faded(batch.progress, weights.final_ratio)
        total = losses.total + fading * (taught + weights.feature_weight * features)
        total.backward()
        terms = _terms(losses, taught_loss=taught, feature_loss=features)
        return {**terms, "total": total.detach()}

    return backward


def distilled_from_boxes(
    student: Detector, shown: Shown, recipe: Train, weights: Distill
) -> Callable[[TensorBatch], Terms]:
    """Learning from boxes, and from boxes and scores of a teacher that shows nothing else.

    Its detections come with the batch (`taught.with_detections`), moved like the true boxes.
    """

    def backward(batch: TensorBatch) -> Terms:
        outputs = student(batch.images_BCHW)
        true, taught = shown.parted(batch.labels)
        boxes, rules = batch.boxes_xyxy, recipe.assigner
        own = assignment_of(outputs, batch.grid, boxes, true, batch.ignore, rules)
        losses = detection_losses(outputs, own, batch.grid, recipe.loss)
        nothing = torch.zeros_like(batch.ignore)
        theirs = assignment_of(outputs, batch.grid, boxes, taught.labels, nothing, rules)
        taught_loss = shown_losses(
            outputs,
            theirs,
            batch.grid,
            taught.scores,
            class_weight=weights.class_weight,
            box_weight=weights.box_weight,
        )
        total = losses.total + faded(batch.progress, weights.final_ratio) * taught_loss
        total.backward()
        return {**_terms(losses, taught_loss=taught_loss), "total": total.detach()}

    return backward


def faded(progress: float, final_ratio: float) -> float:
    """From 1 at the first step along a cosine to `final_ratio` at the last."""
    return final_ratio + (1 - final_ratio) * (1 + math.cos(math.pi * min(progress, 1.0))) / 2


def feature_distance(student: Outputs, teacher: Outputs) -> Tensor:
    """Mean squared error of neck maps, each channel to zero mean and unit variance first."""
    pairs = zip(student.features, teacher.features, strict=True)
    distances = [F.mse_loss(_standardise(s.float()), _standardise(t.float())) for s, t in pairs]
    return torch.stack(distances).mean()


def _standardise(features: Tensor) -> Tensor:
    variance, mean = torch.var_mean(features, dim=(0, 2, 3), keepdim=True)
    return (features - mean) * torch.rsqrt(variance + 1e-4)
