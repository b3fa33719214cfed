"""One row an epoch: what stands in it; neither a kill nor a glance at the AP changes it."""

import copy
import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from frontier.models.supernet import Supernet
from frontier.params import Length
from frontier.training import scoring
from frontier.training.loop import write_history
from frontier.training.plan import train
from frontier.training.scoring import held_out_score
from tests import tiny

LOSSES = ("loss", "class_loss", "softmax_loss", "box_loss", "dfl_loss")
EIGHT = Length(steps=8, share=0.25)  # six images, two a step: epochs end at steps 3 and 6
RULES = tiny.PARAMS.evaluate
SCORE = held_out_score(tiny.split_of(6), tiny.split_of(70, first_id=50), 64, 64, RULES)


def scored(work: Path, score=SCORE, **recipe):
    return replace(tiny.task(work, **{"score_every": 2, **recipe}), score=score)


def test_a_row_ends_each_epoch_and_the_training(tmp_path):
    history = train(scored(tmp_path), EIGHT)
    assert [(row["step"], row["epoch"]) for row in history] == [(3, 1), (6, 2), (8, 3)]
    assert ["AP" in row for row in history] == [False, True, True]
    assert 0 <= history[1]["AP"] <= 1
    rates = [row["lr"] for row in history]
    assert rates == sorted(rates, reverse=True)


def test_rows_hold_the_mean_of_their_steps(tmp_path):
    task, seen = scored(tmp_path), []
    counted = replace(task, backward=lambda b: seen.append(task.backward(b)) or seen[-1])
    history = train(counted, EIGHT)
    for row, (first, last) in zip(history, pairwise([0, 3, 6, 8]), strict=True):
        for name in LOSSES[1:]:
            mean = sum(float(terms[name]) for terms in seen[first:last]) / (last - first)
            assert row[name] == pytest.approx(mean, rel=1e-6)


def test_scoring_changes_nothing_but_the_ap(tmp_path):
    with_scores, without = scored(tmp_path / "a", score_every=1), scored(tmp_path / "b", None)
    history, plain = train(with_scores, EIGHT), train(without, EIGHT)
    assert [row.pop("AP") >= 0 for row in history] == [True] * 3
    assert history == plain
    for name, value in without.module.state_dict().items():
        assert torch.equal(with_scores.module.state_dict()[name], value), name


def test_scoring_leaves_the_network_and_chance_as_they_were(tmp_path):
    task = scored(tmp_path)
    training = task.training(8, tmp_path)
    training.module.train()
    for batch in task.source(0, 2):
        training.advance(batch)
    before = copy.deepcopy(training.module.state_dict())
    random_state = torch.get_rng_state()
    training.score(SCORE)
    assert torch.equal(torch.get_rng_state(), random_state)
    assert training.module.training
    assert all(torch.equal(t, before[n]) for n, t in training.module.state_dict().items())


def test_the_score_is_of_the_averaged_weights(tmp_path):
    given = []

    def score(module):
        given.append(copy.deepcopy(module.state_dict()))
        return 0.5

    task = scored(tmp_path, score, score_every=1)
    training = task.training(3, tmp_path)
    assert training.fit(task.source, 3, score)[0]["AP"] == 0.5
    average = training.ema.average
    assert all(torch.equal(given[0][name], average[name]) for name in average)


def test_few_images_are_scored(monkeypatch):
    seen = []

    def detect(deployed, split, side, rules):
        seen.append((len(split), len(set(split.image_ids.tolist())), split.image_ids.max()))
        return scoring.detect_all(deployed, split, side, rules)

    monkeypatch.setattr(scoring, "detect_all", scoring.detect, raising=False)
    monkeypatch.setattr(scoring, "detect", detect)
    SCORE(tiny.detector())
    assert seen == [(64, 64, 119)]  # of 70, from the first to the last


def test_images_without_a_box_give_no_score(tmp_path):
    empty = tiny.split_of(4).with_targets(range(4), [0] * 5, [], [], [])
    score = held_out_score(tiny.split_of(4), empty, 64, 64, RULES)
    assert not any("AP" in row for row in train(scored(tmp_path, score, score_every=1), EIGHT))


def test_a_killed_training_writes_the_same_rows(tmp_path):
    class Killed(Exception):
        pass

    task = scored(tmp_path / "b")

    def dying(batch):
        if batch.step == 7:
            raise Killed
        return task.backward(batch)

    whole = train(scored(tmp_path / "a"), EIGHT)
    with pytest.raises(Killed):
        train(replace(task, backward=dying), EIGHT)
    resumed = train(scored(tmp_path / "b"), EIGHT)  # goes on at step 4, within an epoch
    write_history(whole, tmp_path / "whole.csv")
    write_history(resumed, tmp_path / "resumed.csv")
    assert (tmp_path / "whole.csv").read_bytes() == (tmp_path / "resumed.csv").read_bytes()


def test_the_file_holds_only_what_repeats(tmp_path):
    write_history(train(scored(tmp_path), EIGHT), tmp_path / "history.csv")
    header, first, second, _ = (tmp_path / "history.csv").read_text().splitlines()
    assert header == "step,epoch,lr,loss,class_loss,softmax_loss,box_loss,dfl_loss,AP"
    assert first.endswith(",")
    assert not second.endswith(",")


def test_speed_and_memory_are_told_and_recorded(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("FRONTIER_JOURNAL", str(tmp_path / "journal"))
    train(scored(tmp_path / "work"), EIGHT)
    events = [json.loads(line) for line in (tmp_path / "journal").read_text().splitlines()]
    rows = [event for event in events if event["event"] == "metrics"]
    assert [row["step"] for row in rows] == [3, 6, 8]
    assert all(row["metrics"]["images_per_s"] > 0 for row in rows)
    assert all(row["metrics"]["peak_memory_bytes"] > 1e6 for row in rows)
    assert ["AP" in row["metrics"] for row in rows] == [False, True, True]
    assert [e["done"] for e in events if e["event"] == "progress"] == [3, 6, 8]
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines] == ["epoch 1/3", "epoch 2/3", "epoch 3/3"]
    words = ("lr", *LOSSES, "images/s", "GB", "left")
    assert all(word in line for word in words for line in lines)
    assert ["  AP " in line for line in lines] == [False, True, True]


def test_a_supernet_is_scored_by_its_largest_network():
    supernet = Supernet(tiny.SPACE, 3)
    before = copy.deepcopy(supernet.state_dict())
    assert SCORE(supernet.extract(tiny.SPACE.largest.at(64))) >= 0
    assert all(torch.equal(value, before[name]) for name, value in supernet.state_dict().items())


def test_where_nothing_is_held_out_nothing_is_scored(tmp_path):
    """A share of two or three images is none."""
    none = tiny.split_of(4).subset([])
    score = held_out_score(tiny.split_of(4), none, 64, 64, RULES)
    assert not any("AP" in row for row in train(scored(tmp_path, score), EIGHT))
