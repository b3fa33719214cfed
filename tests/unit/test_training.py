"""The training loop: exact resume, refused non-finite steps, damaged checkpoints."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from frontier.data.loader import Batch
from frontier.errors import NonFiniteLoss
from frontier.models.architecture import SearchSpace
from frontier.models.detector import Detector
from frontier.models.supernet import Supernet
from frontier.params import load_params
from frontier.training.checkpoint import load_newest
from frontier.training.loop import Training, learning_rate
from frontier.training.recipes import distilled, sandwich, supervised

PARAMS = load_params(Path(__file__).parents[2] / "params.yaml")
RECIPE = PARAMS.train.model_copy(update={"batch_size": 2, "checkpoint_every": 4, "warmup_steps": 2})
RUN = PARAMS.run.model_copy(update={"device": "cpu"})
SPACE = SearchSpace(0.25, (64, 96))


def batches(start: int, stop: int) -> Iterator[Batch]:
    for step in range(start, stop):
        rng = np.random.default_rng(step)
        corner = rng.uniform(0, 30, (2, 3, 2))
        boxes = np.concatenate([corner, corner + rng.uniform(8, 30, (2, 3, 2))], -1)
        yield Batch(
            rng.integers(0, 255, (2, 64, 64, 3), np.uint8), boxes.astype(np.float32),
            rng.integers(0, 3, (2, 3)), np.zeros((2, 3), bool), np.arange(2),
        )  # fmt: skip


def training(work: Path, steps: int = 10) -> Training:
    torch.manual_seed(0)
    detector = Detector(SPACE.smallest.at(64), 3)
    return Training(detector, RECIPE, steps, work, RUN, supervised(detector, RECIPE))


class Killed(Exception):
    pass


def dying(start: int, stop: int) -> Iterator[Batch]:
    for step, batch in enumerate(batches(start, stop), start):
        if step == 7:
            raise Killed
        yield batch


def test_a_killed_training_ends_as_if_undisturbed(tmp_path):
    whole = training(tmp_path / "a")
    history = whole.fit(batches)
    with pytest.raises(Killed):
        training(tmp_path / "b").fit(dying)
    resumed = training(tmp_path / "b")
    assert resumed.step == 4
    assert resumed.fit(batches) == history
    for name, value in whole.module.state_dict().items():
        assert torch.equal(resumed.module.state_dict()[name], value), name


def test_a_damaged_checkpoint_gives_way_to_the_one_before(tmp_path):
    training(tmp_path, steps=10).fit(batches)
    newest, previous = sorted(tmp_path.glob("*.safetensors"), reverse=True)
    assert load_newest(tmp_path).step == 8
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    assert load_newest(tmp_path).step == 4
    previous.write_bytes(previous.read_bytes()[:-10])
    assert load_newest(tmp_path) is None


@pytest.mark.parametrize("poison", ["loss", "gradient"])
def test_a_non_finite_step_touches_nothing(tmp_path, poison):
    run = training(tmp_path)
    healthy = run.backward

    def poisoned(batch):
        terms = healthy(batch)
        if poison == "gradient":
            next(run.module.parameters()).grad[0] = float("inf")
            return terms
        return {**terms, "total": terms["total"] * float("nan")}

    run.backward = poisoned
    weights = {n: p.detach().clone() for n, p in run.module.named_parameters()}
    average = {n: t.clone() for n, t in run.ema.average.items()}
    with pytest.raises(NonFiniteLoss, match=r"step 0.*class_loss.*images \[0, 1\]"):
        run.fit(batches)
    assert all(torch.equal(p, weights[n]) for n, p in run.module.named_parameters())
    assert all(torch.equal(t, average[n]) for n, t in run.ema.average.items())


def test_learning_rate_warms_up_and_decays():
    rates = [learning_rate(step, 100, RECIPE) for step in range(100)]
    assert rates[0] == RECIPE.learning_rate / 2
    assert max(rates) == pytest.approx(RECIPE.learning_rate)
    assert rates[-1] == pytest.approx(RECIPE.learning_rate * RECIPE.final_lr_ratio)
    assert rates[2:] == sorted(rates[2:], reverse=True)


def test_sandwich_and_distilled_steps_learn(tmp_path):
    torch.manual_seed(0)
    supernet = Supernet(SPACE, 3)
    before = supernet.store["backbone/stem/conv3/weight"].detach().clone()
    run = Training(supernet, RECIPE, 2, tmp_path / "s", RUN, sandwich(supernet, RECIPE, 2, 1.0, 0))
    history = run.fit(batches)
    assert history[-1]["subnet_loss"] > 0
    assert not torch.equal(before, supernet.store["backbone/stem/conv3/weight"])

    teacher, student = Detector(SPACE.largest, 3), supernet.extract(SPACE.smallest)
    run = Training(
        student, RECIPE, 2, tmp_path / "d", RUN, distilled(student, teacher, RECIPE, PARAMS.distill)
    )
    history = run.fit(batches)
    assert history[-1]["taught_loss"] > 0
    assert history[-1]["feature_loss"] > 0


def test_a_teacher_teaches_nothing_to_itself():
    from frontier.training.assigner import assign
    from frontier.training.losses import taught_losses
    from frontier.training.recipes import feature_distance

    detector = Detector(SPACE.smallest, 3).eval()
    outputs = detector(torch.rand(1, 3, 64, 64))
    centres = torch.rand(84, 2) * 64
    assignment = assign(
        outputs.logits.sigmoid(), torch.cat([centres - 8, centres + 8], 1)[None], centres,
        torch.tensor([[[10.0, 10, 40, 40]]]), torch.tensor([[1]]), torch.tensor([[False]]),
    )  # fmt: skip
    assert taught_losses(outputs, outputs, assignment).item() == pytest.approx(0, abs=1e-6)
    assert feature_distance(outputs, outputs).item() == 0
