"""The training loop: exact resume, refused non-finite steps, damaged checkpoints."""

import hashlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from safetensors import safe_open

from frontier import tracking
from frontier.data.loading.loader import Batch
from frontier.errors import NonFiniteLoss
from frontier.models.detector import Detector
from frontier.models.supernet import Supernet
from frontier.training.checkpoint import load_newest
from frontier.training.loop import Training, learning_rate
from frontier.training.recipes import distilled, sandwich, supervised
from tests import tiny
from tests.tiny import PARAMS, RECIPE, RUN, SPACE

EPOCH = 3  # steps


def batches(start: int, stop: int) -> Iterator[Batch]:
    for step in range(start, stop):
        rng = np.random.default_rng(step)
        corner = rng.uniform(0, 30, (2, 3, 2))
        boxes = np.concatenate([corner, corner + rng.uniform(8, 30, (2, 3, 2))], -1)
        yield Batch(
            rng.integers(0, 255, (2, 64, 64, 3), np.uint8), boxes.astype(np.float32),
            rng.integers(0, 3, (2, 3)), np.zeros((2, 3), bool), np.arange(2), ["blood/train"] * 2,
        )  # fmt: skip


def training(work: Path, steps: int = 10) -> Training:
    detector = tiny.detector()
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
    history = whole.fit(batches, EPOCH)
    with pytest.raises(Killed):
        training(tmp_path / "b").fit(dying, EPOCH)
    resumed = training(tmp_path / "b")
    assert resumed.step == 4
    assert resumed.fit(batches, EPOCH) == history
    for name, value in whole.module.state_dict().items():
        assert torch.equal(resumed.module.state_dict()[name], value), name


@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_training_sees_the_same_losses_across_an_epoch(tmp_path, workers):
    def losses(folder, steps):
        task = tiny.task(folder, images=22, loader_workers=workers, checkpoint_every=40)
        run, seen = task.training(48, folder), []
        run.backward = lambda batch: seen.append(task.backward(batch)) or seen[-1]
        first = run.step
        run.module.train()
        for batch in islice(task.source(first, 48), steps):
            run.advance(batch)
            if run.step == 40:
                run.save()
        return first, seen

    _, whole = losses(tmp_path / "whole", 48)
    assert losses(tmp_path / "cut", 42)[0] == 0
    resumed_at, tail = losses(tmp_path / "cut", 8)
    assert resumed_at == 40  # 11 steps are an epoch, so step 44 begins the fifth
    for one, other in zip(whole[40:], tail, strict=True):
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one)


def of_precision(folder: Path, precision: str, steps: int) -> tuple[Training, list[dict]]:
    """A training that goes on where its folder stands, and the losses of its steps."""
    task = tiny.task(folder, images=22, checkpoint_every=40)
    task = replace(task, run=task.run.model_copy(update={"precision": precision}))
    run, seen = task.training(48, folder), []
    run.backward = lambda batch: seen.append(task.backward(batch)) or seen[-1]
    run.module.train()
    for batch in islice(task.source(run.step, 48), steps):
        run.advance(batch)
    run.save()
    return run, seen


def test_bfloat16_follows_float32_and_resumes_to_the_bit(tmp_path):
    (half, rounded), (_, exact) = (
        of_precision(tmp_path / name, name, 12) for name in ("bfloat16", "float32")
    )
    first, reference = (float(losses[0]["total"]) for losses in (rounded, exact))
    assert first != reference  # it is on
    assert first == pytest.approx(reference, rel=0.02)
    assert all(torch.isfinite(terms["total"]) for terms in rounded)
    assert all(value.dtype != torch.bfloat16 for value in half.module.state_dict().values())
    _, whole = of_precision(tmp_path / "whole", "bfloat16", 20)
    _, tail = of_precision(tmp_path / "bfloat16", "bfloat16", 8)
    for one, other in zip(whole[12:], tail, strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """The folder of a stage that trained to step 13, with checkpoints of steps 8 and 12."""
    folder = tmp_path_factory.mktemp("work")
    for name in ("run.json", "plan.json"):  # what lies beside them is no checkpoint
        (folder / name).write_text("{}")
    training(folder, steps=13).fit(batches, EPOCH)
    return folder


def test_two_checkpoints_are_kept(checkpoints):
    assert load_newest(checkpoints).step == 12
    assert len([*checkpoints.glob("*.safetensors")]) == 2
    assert (checkpoints / "run.json").is_file()


@pytest.mark.parametrize("seed", range(50))
def test_a_flipped_bit_gives_way_to_the_checkpoint_before(checkpoints, seed):
    newest = max(checkpoints.glob("*.safetensors"))
    content = newest.read_bytes()
    rng = np.random.default_rng(seed)
    # half of them in the header, where the history and the names of the tensors stand
    place = int(rng.integers(4096 if seed % 2 else len(content)))
    damaged = bytearray(content)
    damaged[place] ^= 1 << int(rng.integers(8))
    try:
        newest.write_bytes(damaged)
        assert load_newest(checkpoints).step == 8
    finally:
        newest.write_bytes(content)
    assert load_newest(checkpoints).step == 12


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999999])
def test_a_truncated_checkpoint_gives_way_to_the_one_before(checkpoints, share):
    newest = max(checkpoints.glob("*.safetensors"))
    content = newest.read_bytes()
    try:
        newest.write_bytes(content[: int(len(content) * share)])
        assert load_newest(checkpoints).step == 8
    finally:
        newest.write_bytes(content)


def warnings_in(journal):
    events = [event for _, event in tracking.read_events(journal)]
    return [event["text"] for event in events if event["event"] == "warning"]


def test_a_damaged_checkpoint_is_told(checkpoints, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("FRONTIER_JOURNAL", str(tmp_path / "journal.jsonl"))
    assert load_newest(checkpoints).step == 12
    assert not (tmp_path / "journal.jsonl").exists()
    newest = max(checkpoints.glob("*.safetensors"))
    content = newest.read_bytes()
    try:
        newest.write_bytes(content[:-9])
        assert training(checkpoints).step == 8
    finally:
        newest.write_bytes(content)
    (told,) = warnings_in(tmp_path / "journal.jsonl")
    assert newest.name in told
    assert "truncated or altered" in told
    assert "goes on from step 8" in told
    assert told in capsys.readouterr().err


def test_without_a_whole_checkpoint_training_starts_over(tmp_path, capsys):
    training(tmp_path, steps=10).fit(batches, EPOCH)
    for path in tmp_path.glob("*.safetensors"):
        path.write_bytes(path.read_bytes()[:-10])
    assert load_newest(tmp_path) is None
    assert training(tmp_path).step == 0
    assert "starts over from step 0" in capsys.readouterr().err


@pytest.mark.parametrize(
    "part",
    ["model/", "ema/", "muon/", "adamw/", "history", "sums", "summed", "step", "state", "contents"],
)
def test_a_checkpoint_without_a_part_gives_way_though_its_digest_is_right(
    checkpoints, part, tmp_path
):
    """As a faulty writer would leave it: one tensor, one entry of the state, or a whole field."""
    shutil.copytree(checkpoints, tmp_path, dirs_exist_ok=True)
    newest = max(tmp_path.glob("*.safetensors"))
    with safe_open(newest, "pt") as file:
        metadata, tensors = file.metadata(), {n: file.get_tensor(n) for n in file.keys()}  # noqa: SIM118
    state = json.loads(metadata["state"])
    if part.endswith("/"):
        del tensors[max(name for name in tensors if name.startswith(part))]
    else:
        del (state if part in state else metadata)[part]
    if "state" in metadata:
        metadata["state"] = json.dumps(state)
    content = safetensors.torch.save(tensors, metadata)
    newest.unlink()
    digest = hashlib.sha256(content).hexdigest()
    (tmp_path / f"{newest.name[:8]}-{digest}.safetensors").write_bytes(content)
    found = load_newest(tmp_path)
    assert found is not None
    assert found.step == 8


def poison_pixels(value, run, batch):
    batch.images_BCHW[0, 0, 5, 5] = value


def poison_boxes(value, run, batch):
    batch.boxes_xyxy[1, 2, 3] = value


def poison_weight(value, run, batch):
    with torch.no_grad():
        next(run.module.parameters())[0] = value


def poison_gradient(value, run, batch):
    parameter = next(run.module.parameters())
    parameter.register_hook(lambda gradient: torch.full_like(gradient, value))


def poison_nothing(value, run, batch):
    pass


def state_of(run):
    """Every byte that a step may change: weights, batch-norm statistics, EMA, optimizers."""
    tensors = dict(run.module.state_dict())
    tensors |= {f"ema {name}": value for name, value in run.ema.average.items()}
    for name, optimizer in run.optimizers.items():
        for index, slots in optimizer.state_dict()["state"].items():
            tensors |= {f"{name} {index} {key}": value for key, value in slots.items()}
    return {name: value.detach().clone() for name, value in tensors.items()}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize(
    "poison", [poison_pixels, poison_boxes, poison_weight, poison_gradient, poison_nothing]
)
def test_a_non_finite_step_touches_nothing(tmp_path, poison, value):
    run = training(tmp_path)
    run.module.train()
    for batch in batches(0, 2):
        run.advance(batch)
    healthy, before = run.backward, {}

    def poisoned(batch):
        poison(value, run, batch)
        before.update(state_of(run))
        terms = healthy(batch)
        loss = terms["total"] * (value if poison is poison_nothing else 1.0)
        return {**terms, "total": loss}

    run.backward = poisoned
    words = r"step 2: .*not finite \(total .*class_loss .*box_loss .*dfl_loss .*"
    words += r"images \[blood/train 0, blood/train 1\]"
    with pytest.raises(NonFiniteLoss, match=words):
        run.advance(next(batches(2, 3)))
    after = state_of(run)
    assert any(name.startswith("muon") for name in before)
    assert before.keys() == after.keys()
    for name, kept in before.items():
        assert kept.numpy().tobytes() == after[name].numpy().tobytes(), name
    assert run.step == 2


def test_an_overflow_in_the_optimizers_step_is_never_saved_nor_returned(tmp_path):
    run = training(tmp_path)
    run.module.train()
    run.advance(next(batches(0, 1)))
    run.save()
    kept = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    next(iter(run.ema.average.values())).view(-1)[0] = float("inf")
    with pytest.raises(NonFiniteLoss, match="step 1: weights overflowed"):
        run.save()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == kept
    run.step = run.steps
    with pytest.raises(NonFiniteLoss, match=r"lower train\.learning_rate"):
        run.fit(lambda start, stop: iter(()), 1)


def refuses_step_one(run):
    before = state_of(run)
    with pytest.raises(NonFiniteLoss, match=r"step 1: .* norm of weights and statistics (nan|inf)"):
        run.advance(next(batches(1, 2)))
    after = state_of(run)
    assert all(kept.numpy().tobytes() == after[n].numpy().tobytes() for n, kept in before.items())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_weight_that_no_subnet_of_the_step_uses_is_seen_all_the_same(tmp_path, value):
    supernet = Supernet(SPACE, 3)
    run = Training(supernet, RECIPE, 4, tmp_path, RUN, sandwich(supernet, RECIPE, 0, 1.0, 0))
    run.module.train()
    run.advance(next(batches(0, 1)))
    unused = next(p for p in supernet.parameters() if p.grad is None)
    with torch.no_grad():
        unused[0] = value
    refuses_step_one(run)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_running_statistic_is_seen_though_training_does_not_use_it(tmp_path, value):
    run = training(tmp_path)
    run.module.train()
    run.advance(next(batches(0, 1)))
    next(b for b in run.module.buffers() if b.is_floating_point())[0] = value
    refuses_step_one(run)


@pytest.mark.parametrize("step", [0, 2, 9])
def test_a_non_finite_loss_ends_the_training_on_any_step(tmp_path, step):
    run = training(tmp_path)
    healthy = run.backward
    spoil = lambda batch: float("nan") if batch.step == step else 1.0  # noqa: E731
    run.backward = lambda batch: {n: t * spoil(batch) for n, t in healthy(batch).items()}
    with pytest.raises(NonFiniteLoss, match=f"step {step}:"):
        run.fit(batches, EPOCH)
    assert len(run.history) == step // EPOCH


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
    history = run.fit(batches, EPOCH)
    assert history[-1]["subnet_loss"] > 0
    assert not torch.equal(before, supernet.store["backbone/stem/conv3/weight"])

    teacher, student = Detector(SPACE.largest, 3), supernet.extract(SPACE.smallest)
    run = Training(
        student, RECIPE, 2, tmp_path / "d", RUN, distilled(student, teacher, RECIPE, PARAMS.distill)
    )
    history = run.fit(batches, EPOCH)
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
        RECIPE.assigner,
    )  # fmt: skip
    assert taught_losses(outputs, outputs, assignment).item() == pytest.approx(0, abs=1e-6)
    assert feature_distance(outputs, outputs).item() == 0
