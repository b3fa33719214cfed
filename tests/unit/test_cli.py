"""The command: quick help, errors in words, nothing written before a wish is found valid."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from frontier import cli

CHECKOUT = Path(__file__).resolve().parents[2]
HEAVY = ("torch", "mlflow", "prefect", "great_expectations", "dvc", "pandas")


def frontier(
    *arguments: str, cwd: Path = CHECKOUT, program: tuple[str, ...] = ("-m", "frontier.cli")
) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "PYTHONPATH": f"{CHECKOUT / 'src'}{os.pathsep}{CHECKOUT}"}
    return subprocess.run(
        [sys.executable, *program, *arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name in ("params.yaml", "dvc.yaml"):
        (tmp_path / name).write_text((CHECKOUT / name).read_text())
    return tmp_path


def test_help_is_quick_and_names_every_command() -> None:
    frontier("--help")  # byte code
    seconds = []
    for _ in range(3):
        started = time.monotonic()
        answer = frontier("--help")
        seconds.append(time.monotonic() - started)
    assert answer.returncode == 0
    assert min(seconds) < 1.0
    for command in ("run", "status", "ui", "report", "catalog", "predict", "schedule", "promote"):
        assert command in answer.stdout


@pytest.mark.parametrize("command", ["", "run", "status", "catalog", "predict", "schedule"])
def test_help_loads_nothing_heavy(command: str) -> None:
    program = (
        "import sys; from frontier.cli import app\n"
        f"app({[*([command] if command else []), '--help']!r}, standalone_mode=False)\n"
        f"print('HEAVY', [name for name in {HEAVY!r} if name in sys.modules])"
    )
    assert "HEAVY []" in frontier(program=("-c", program)).stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "--set", "serch.finalists=3"], "did you mean 'search'"),
        (["run", "--set", "search.finalists=x"], "search.finalists"),
        (["run", "--preset", "smok"], "did you mean 'smoke'"),
        (["run", "--data", "nowhere"], "nowhere"),
        (["run", "--target", "tensort"], "did you mean 'tensorrt'"),
        (["run", "--bogus"], "--bogus"),
        (["run", "--set", "run.device=cuda"], "run.device: cuda"),
        (["run", "--budget", "2x"], "--budget 2x: no duration"),
        (["run", "--budget", "2h", "--only", "pack"], "leave out --from and --only"),
        (["run", "--architecture", "yolo"], "not an architecture code"),
        (["run", "--architecture", "1", "--from-catalog"], "--from-catalog starts a search"),
        (["run", "--set", "architecture=yolo_nas_s", "--from-catalog"], "architecture=null"),
        (["catalog", "show"], "frontier catalog show N"),
        (["catalog", "list"], "frontier catalog show N"),
        (["schedule", "--set", "serch.finalists=3"], "did you mean 'search'"),
        (["run", "--only", "serch", "--set", "run.seed=1"], "did you mean 'search'"),
    ],
)
def test_a_wrong_wish_ends_with_2_before_anything_is_written(
    checkout: Path, arguments: list[str], words: str
) -> None:
    before = (checkout / "params.yaml").read_bytes()
    answer = frontier(*arguments, cwd=checkout)
    assert answer.returncode == 2
    assert words in answer.stderr
    assert "Traceback" not in answer.stderr
    assert (checkout / "params.yaml").read_bytes() == before
    assert not (checkout / "data").exists()


def test_a_folder_that_is_no_dataset(checkout: Path) -> None:
    (checkout / "photos").mkdir()
    answer = frontier("run", "--data", "photos", cwd=checkout)
    assert answer.returncode == 2
    assert "photos" in answer.stderr
    assert not (checkout / "data").exists()


def test_outside_of_a_checkout(tmp_path: Path) -> None:
    answer = frontier("status", cwd=tmp_path)
    assert answer.returncode == 2
    assert "not inside a Frontier checkout" in answer.stderr


def test_an_internal_error_leaves_no_file_in_a_users_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "the traceback" in cli._keep_traceback("the traceback")
    assert not [*tmp_path.iterdir()]
    for name in ("dvc.yaml", "params.yaml"):
        (tmp_path / name).touch()
    assert cli._keep_traceback("the traceback").endswith(".work/logs/crash.log")
    assert (tmp_path / ".work/logs/crash.log").read_text() == "the traceback"


def test_predict_before_anything_was_exported(checkout: Path) -> None:
    (checkout / "photo.png").write_bytes(b"")
    answer = frontier("predict", "photo.png", cwd=checkout)
    assert answer.returncode == 2
    assert "frontier run" in answer.stderr
