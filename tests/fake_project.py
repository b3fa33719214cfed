"""A tiny project with the real machinery and three stages of a second each.

`first -> train -> score@alpha, score@beta`: `train` counts steps, keeps each one in its work folder
and can be told to wait, fail or fill the disk, so that tests can kill it where they like.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]

DVC_YAML = """\
stages:
  first:
    cmd: python -m frontier.stages first
    deps: [data/source.json, src/frontier/stages/first.py]
    params: [run]
    outs: [data/first, data/runs/first.json]
    metrics: [data/metrics/first.json]
    meta: {device: cpu}
  train:
    cmd: python -m frontier.stages train
    deps: [data/first, src/frontier/stages/train.py]
    params: [run, teacher]
    outs: [data/train, data/runs/train.json]
    metrics: [data/metrics/train.json]
    meta: {device: training}
  score:
    foreach: ${targets}
    do:
      cmd: python -m frontier.stages score ${key}
      deps: [data/train, src/frontier/stages/score.py]
      params: [evaluate, 'targets.${key}']
      outs: ['data/score/${key}', 'data/runs/score@${key}.json']
      metrics: ['data/metrics/score@${key}.json']
      meta: {device: target}
"""

FIRST = """\
from pathlib import Path
from frontier.params import Run, Section
from frontier.errors import DataError
from frontier.stages import Inputs

class Params(Section):
    run: Run

def run(params: Params, inputs: Inputs, out: Path) -> dict[str, float]:
    (out / "seed.txt").write_text(str(params.run.seed))
    if (inputs.root / "bad").exists():
        raise DataError("data/first: 2 problems", ["image 1 is bad", "image 2 is bad"])
    return {"seed": params.run.seed}
"""

TRAIN = """\
import os, time
from pathlib import Path
from frontier import tracking
from frontier.params import Run, Section, Teacher
from frontier.stages import Inputs

class Params(Section):
    run: Run
    teacher: Teacher

def run(params: Params, inputs: Inputs, out: Path) -> dict[str, float]:
    state = inputs.work / "steps.txt"
    done = len(state.read_text().splitlines()) if state.exists() else 0
    (inputs.root / "writers.log").open("a").write(f"start {os.getpid()} {done}\\n")
    for step in range(done, params.teacher.steps):
        with state.open("a") as file:
            file.write(f"{step}\\n")
        tracking.log_metrics({"loss": 1.0 / (step + 1)}, step=step)
        tracking.log_progress(step + 1, params.teacher.steps, "training")
        time.sleep(float(os.environ.get("FAKE_STEP_S", "0")))
    (out / "model.txt").write_text(inputs.path("first/seed.txt").read_text() + state.read_text())
    (out / "figure.svg").write_text("<svg/>")
    tracking.log_artifact(out / "figure.svg", folder="figures")
    (inputs.root / "writers.log").open("a").write(f"end {os.getpid()}\\n")
    return {"steps": params.teacher.steps, "undefined": float("nan")}
"""

SCORE = """\
from pathlib import Path
from frontier.params import Evaluate, Section, Target
from frontier.stages import Inputs

class Params(Section):
    evaluate: Evaluate
    target: Target

def run(params: Params, inputs: Inputs, out: Path) -> dict[str, float]:
    steps = inputs.path("train/model.txt").read_text()
    (out / "score.txt").write_text(f"{params.target.kind} {len(steps)}")
    return {"AP": 0.5}
"""


def make(folder: Path, *, git: bool = False, steps: int = 5) -> Path:
    """Lay the project out in `folder`: the checkout's package with three stages of our own."""
    shutil.copytree(
        CHECKOUT / "src", folder / "src", ignore=shutil.ignore_patterns("__pycache__", "stages")
    )
    stages = folder / "src" / "frontier" / "stages"
    stages.mkdir()
    for name in ("__init__.py", "__main__.py"):
        shutil.copy(CHECKOUT / "src" / "frontier" / "stages" / name, stages / name)
    for name, text in {"first": FIRST, "train": TRAIN, "score": SCORE}.items():
        (stages / f"{name}.py").write_text(text)
    shutil.copytree(
        CHECKOUT / "pipelines", folder / "pipelines", ignore=shutil.ignore_patterns("__pycache__")
    )
    (folder / ".dvc").mkdir()
    shutil.copy(CHECKOUT / ".dvc" / "config", folder / ".dvc" / "config")
    for name in (".dvcignore", ".gitignore"):
        shutil.copy(CHECKOUT / name, folder / name)
    params = (CHECKOUT / "params.yaml").read_text()
    (folder / "params.yaml").write_text(_with_steps(params, steps))
    (folder / "dvc.yaml").write_text(DVC_YAML)
    (folder / "data").mkdir()
    (folder / "data" / "source.json").write_text("{}\n")
    if git:
        subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    return folder


def environment(folder: Path, **extra: str) -> dict[str, str]:
    """The project's own sources first, whatever is installed."""
    environment = {**os.environ, "PYTHONPATH": f"{folder / 'src'}{os.pathsep}{folder}", **extra}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return environment


def _with_steps(params: str, steps: int) -> str:
    head, tail = params.split("teacher:\n  steps:", 1)
    return f"{head}teacher:\n  steps: {steps}{tail[tail.index(chr(10)) :]}"
