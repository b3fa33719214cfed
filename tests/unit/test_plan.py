"""Seconds become steps once, fairly, and without touching what is trained."""

import itertools
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from frontier.errors import UsageError
from frontier.files import read_json
from frontier.params import Length, load_yaml, parse_params
from frontier.training import plan
from frontier.training.plan import affordable, plan_of, train
from frontier.training.sources import Sides
from tests import tiny

HALF = Length(steps=7, share=0.5)
NOTHING = Length(steps=7, share=0.0)


class Clock:
    """Virtual seconds: a step costs as many as its side says, a checkpoint takes half a second."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, costs: dict[int, float]) -> None:
        self.now, self.costs = 0.0, costs
        monkeypatch.setattr(plan, "clock", lambda run: self.now)
        save = plan.Training.save

        def saved(training: plan.Training) -> None:
            self.now += 0.5
            save(training)

        monkeypatch.setattr(plan.Training, "save", saved)

    def wound_by(self, task: plan.Task) -> plan.Task:
        def backward(batch):
            self.now += self.costs[batch.images_BCHW.shape[-1]]
            return task.backward(batch)

        return replace(task, backward=backward)


@pytest.mark.parametrize("sides", [(64,), (64, 96, 128)])
def test_a_training_takes_its_share_of_the_budget(tmp_path: Path, monkeypatch, sides) -> None:
    clock = Clock(monkeypatch, {64: 1.0, 96: 2.25, 128: 4.0})
    task = clock.wound_by(tiny.task(tmp_path, sides=sides, budget_s=160.0, checkpoint_every=10))
    history = train(task, HALF)
    assert clock.now == pytest.approx(80, rel=0.05)
    assert history[-1]["step"] == read_json(tmp_path / "plan.json")["steps"]


def test_a_plan_leaves_everything_as_it_was(tmp_path: Path, monkeypatch) -> None:
    clock = Clock(monkeypatch, {64: 1.0, 96: 2.25})
    task = clock.wound_by(tiny.task(tmp_path, sides=(64, 96), budget_s=160.0))
    task.module.eval()
    state = {name: value.clone() for name, value in task.module.state_dict().items()}
    random_state = torch.get_rng_state()
    planned = plan_of(task, HALF)
    assert planned.batch_size == 2
    assert all(torch.equal(value, state[n]) for n, value in task.module.state_dict().items())
    assert all(parameter.grad is None for parameter in task.module.parameters())
    assert torch.equal(torch.get_rng_state(), random_state)
    assert not task.module.training
    assert [path.name for path in tmp_path.iterdir()] == ["plan.json"]


def test_a_planned_training_equals_one_of_as_many_steps(tmp_path: Path, monkeypatch) -> None:
    clock = Clock(monkeypatch, {64: 1.0})
    planned = clock.wound_by(tiny.task(tmp_path / "a", budget_s=80.0))
    history = train(planned, HALF)
    plain = tiny.task(tmp_path / "b")
    assert train(plain, Length(steps=int(history[-1]["step"]), share=0.5)) == history
    for name, value in plain.module.state_dict().items():
        assert torch.equal(planned.module.state_dict()[name], value), name


def test_a_resumed_training_keeps_its_plan(tmp_path: Path, monkeypatch) -> None:
    clock = Clock(monkeypatch, {64: 1.0})
    first = plan_of(clock.wound_by(tiny.task(tmp_path, budget_s=100.0)), HALF)
    clock.costs = {64: 1.5}
    assert plan_of(clock.wound_by(tiny.task(tmp_path, budget_s=100.0)), HALF) == first
    fresh = plan_of(clock.wound_by(tiny.task(tmp_path / "new", budget_s=100.0)), HALF)
    assert fresh.steps < first.steps


def test_a_budget_that_trains_next_to_nothing_is_refused(tmp_path: Path, monkeypatch) -> None:
    clock = Clock(monkeypatch, {64: 10.0})
    with pytest.raises(UsageError, match=r"train\.budget_s: 100 s with a share of 0\.5") as refused:
        train(clock.wound_by(tiny.task(tmp_path / "few", budget_s=100.0)), HALF)
    assert clock.now < 100
    assert not (tmp_path / "few" / "plan.json").exists()
    least = float(re.search(r"set train\.budget_s=(\d+) or more", str(refused.value))[1])
    enough = clock.wound_by(tiny.task(tmp_path / "enough", budget_s=least))
    assert 20 <= plan_of(enough, HALF).steps < 28
    with pytest.raises(UsageError, match="give it a share"):
        plan_of(clock.wound_by(tiny.task(tmp_path / "none", budget_s=100.0)), NOTHING)


@pytest.mark.parametrize(("slower", "off_by"), [(1.0, 0.0), (1.5, 0.37), (0.8, -0.15)])
def test_what_was_planned_is_told_beside_what_was_taken(
    tmp_path: Path, monkeypatch, capsys, slower: float, off_by: float
) -> None:
    clock = Clock(monkeypatch, {64: 1.0})
    task = clock.wound_by(tiny.task(tmp_path, budget_s=160.0))
    plan_of(task, HALF)
    clock.costs = {64: slower}
    train(task, HALF)
    record = read_json(tmp_path / "plan.json")
    assert record["planned_s"] == 80
    assert record["took_s"] == pytest.approx(clock.now)
    assert record["off_by"] == pytest.approx(clock.now / 80 - 1)
    assert record["off_by"] == pytest.approx(off_by, abs=0.05)
    warned = capsys.readouterr().err
    assert ("warning: train.budget_s: planned 80 s, took" in warned) == (abs(off_by) > 0.05)


def test_a_resumed_training_is_compared_by_its_last_part(tmp_path: Path, monkeypatch) -> None:
    clock = Clock(monkeypatch, {64: 1.0})
    task = tiny.task(tmp_path, budget_s=80.0)

    def dying(batch):
        if batch.step == 10 and (tmp_path / "plan.json").exists():
            raise KeyboardInterrupt
        return task.backward(batch)

    with pytest.raises(KeyboardInterrupt):
        train(clock.wound_by(replace(task, backward=dying)), HALF)
    clock.now += 1000  # while nothing runs
    train(clock.wound_by(tiny.task(tmp_path, budget_s=80.0)), HALF)
    assert abs(read_json(tmp_path / "plan.json")["off_by"]) < 0.05


def test_without_a_budget_nothing_is_timed(tmp_path: Path) -> None:
    assert plan_of(tiny.task(tmp_path), HALF) == (7, 2)
    assert not [*tmp_path.iterdir()]


def test_affordable_walks_the_real_sequence_of_sides() -> None:
    sides = Sides((64, 96), seed=0)
    drawn = Counter(itertools.islice(map(sides, itertools.count()), 10))
    cost = drawn[64] * 1.0 + drawn[96] * 5.0 + 10 * 0.1
    assert affordable(cost + 1e-6, {64: 1.0, 96: 5.0}, 0.1, sides) == 10
    assert affordable(cost - 1e-6, {64: 1.0, 96: 5.0}, 0.1, sides) == 9
    assert affordable(0.0, {64: 1.0, 96: 5.0}, 0.1, sides) == 0


def test_every_side_is_seen_in_turn() -> None:
    assert [Sides((64, 96, 128))(step) for step in range(5)] == [64, 96, 128, 64, 96]


@pytest.mark.parametrize(("shares", "total"), [((0.1, 0.3, 0.3, 0.4), "1.1"), ((0, 0, 0, 0), "0")])
def test_shares_of_a_budget_sum_to_one(shares, total) -> None:
    values = load_yaml(Path(__file__).parents[2] / "params.yaml")
    for name, share in zip(("pretrain", "teacher", "supernet", "distill"), shares, strict=True):
        values[name]["share"] = share
    parse_params(values)  # without a budget no share is used
    values["train"]["budget_s"] = 600
    with pytest.raises(UsageError) as refused:
        parse_params(values)
    message = str(refused.value)
    assert "train.budget_s" in message
    assert f"is {total}; make the shares sum to 1" in message
    for name, share in zip(("pretrain", "teacher", "supernet", "distill"), shares, strict=True):
        assert f"{name}.share {share:g}" in message


def test_each_searched_target_has_a_student_to_pay_for() -> None:
    values = load_yaml(Path(__file__).parents[2] / "params.yaml")
    values["train"]["budget_s"] = 600
    values["searched"] = ["onnxruntime-cpu", "tensorrt"]
    with pytest.raises(UsageError, match=r"distill\.share 0\.3 x 2 searched target"):
        parse_params(values)
    values["distill"]["share"] = 0.15
    parse_params(values)


@pytest.mark.parametrize("budget", [0, -5, "soon"])
def test_a_budget_is_a_time(budget) -> None:
    values = load_yaml(Path(__file__).parents[2] / "params.yaml")
    values["train"]["budget_s"] = budget
    with pytest.raises(UsageError, match=r"train\.budget_s"):
        parse_params(values)
