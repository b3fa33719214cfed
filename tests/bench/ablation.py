"""The recipe, and the recipe with one part changed: AP on val of each, as a table in Markdown.

    python tests/bench/ablation.py --data DIR --steps 800 --seeds 0 1 --out DIR2

The cost is told first, from a few timed steps. Each training appends to `rows.jsonl` in DIR2 when
it ends; started again, the command goes on with those that are missing, and `table.md` there is
written anew after each. `--rows` chooses among the changes, `--set` changes all of them alike.
"""

import argparse
import datetime
import shlex
import statistics
import time
from pathlib import Path
from typing import Any

from accuracy import exported, scores, trained
from network import add_network, chosen_network
from photos import coco_folder, packed

from frontier.files import append_json_lines, atomic_write, read_json_lines
from frontier.models.architecture import Architecture
from frontier.params import Params
from pipelines.settings import Request, merge

ROOT = Path(__file__).parents[2]
CHANGES: dict[str, list[str]] = {
    "none": [],
    "adamw": ["train.optimizer.kind=adamw"],
    "adamw-slower": ["train.optimizer.kind=adamw", "train.learning_rate=0.002"],
    "small-updates": ["train.optimizer.update_rms=0.2"],
    "no-average": ["train.ema_decay=0"],
    "no-decay": ["train.weight_decay=0"],
    "no-softmax": ["train.loss.softmax=0"],
    "no-balance": ["train.loss.class_balance=0"],
    "bfloat16": ["run.precision=bfloat16"],
    "no-scale": ["train.augment.scale=[1,1]"],
    "wide-scale": ["train.augment.scale=[0.5,1.5]"],
    "no-colour": ["train.augment.hsv=[0,0,0]"],
    "no-flip": ["train.augment.flip=0"],
    "mosaic": ["train.augment.mosaic=0.5"],
    "mixup": ["train.augment.mixup=0.3"],
    "paste": ["train.augment.paste=2"],
}
TIMED = (4, 12)  # steps: the difference is free of what a training takes beside them
Row = dict[str, Any]


class Ablation:
    """What all rows have in common; one row is a change and a seed."""

    def __init__(self, given: argparse.Namespace) -> None:
        self.given, self.chosen = given, chosen_network(given)
        side = self.chosen.image_side
        self.splits = {name: packed(given.data, name, side) for name in ("train", "val")}
        self.journal = given.out / "rows.jsonl"

    def params(self, change: str, seed: int) -> Params:
        wanted = [*self.given.changes, *CHANGES[change]]
        wanted += ["train.checkpoint_every=1000000000", f"run.seed={seed}"]
        return merge(ROOT, Request(preset=self.given.preset, assignments=wanted)).params

    def settings(self, change: str, seed: int) -> Row:
        """What a row must agree in to be taken for done."""
        return {
            "change": change,
            "seed": seed,
            "steps": self.given.steps,
            "network": self.chosen.code,
            "set": [*self.given.changes, *CHANGES[change]],
        }

    def done(self) -> list[Row]:
        rows = read_json_lines(self.journal)
        return [r for r in rows if r.items() >= self.settings(r["change"], r["seed"]).items()]

    def missing(self) -> list[tuple[str, int]]:
        there = {(row["change"], row["seed"]) for row in self.done()}
        wanted = [(change, seed) for seed in self.given.seeds for change in self.given.rows]
        return [each for each in wanted if each not in there]

    def step_seconds(self) -> float:
        took, params = [], self.params("none", 0)
        for steps in (TIMED[0], *TIMED):  # the first one warms up
            start = time.perf_counter()
            trained(params, self.chosen, self.splits, steps)
            took.append(time.perf_counter() - start)
        return (took[2] - took[1]) / (TIMED[1] - TIMED[0])

    def run(self, change: str, seed: int) -> None:
        params = self.params(change, seed)
        detector, took = trained(params, self.chosen, self.splits, self.given.steps)
        quality = scores(exported(detector), self.splits["val"], params)
        row = {**self.settings(change, seed), **quality, "seconds": took["seconds"]}
        append_json_lines(self.journal, [row])


def table(rows: list[Row], command: str, chosen: Architecture, steps: int) -> str:
    """A line for each change: mean and deviation over its seeds."""
    lines = [
        f"{steps} steps of `{chosen.code}`, val, by",
        "",
        f"```sh\n{command}\n```",
        "",
        "| change | seeds | AP | deviation | AP50 | AP75 | s |",
        "|---|---|---|---|---|---|---|",
    ]
    for change in dict.fromkeys(row["change"] for row in rows):
        own = [row for row in rows if row["change"] == change]
        means = {key: statistics.mean(row[key] for row in own) for key in ("AP", "AP50", "AP75")}
        ap = [row["AP"] for row in own]
        spread = f"{statistics.stdev(ap):.3f}" if len(ap) > 1 else ""
        shown = " ".join(f"`{part}`" for part in CHANGES[change]) or "none"
        numbers = [f"{means['AP']:.3f}", spread, f"{means['AP50']:.3f}", f"{means['AP75']:.3f}"]
        seconds = f"{statistics.mean(row['seconds'] for row in own):.0f}"
        lines.append(f"| {' | '.join([shown, str(len(own)), *numbers, seconds])} |")
    return "\n".join(lines) + "\n"


def command_of(given: argparse.Namespace, chosen: Architecture) -> str:
    """The call without the folders of this machine."""
    parts = ["python", "tests/bench/ablation.py", "--data", "DIR", "--out", "DIR2"]
    parts += ["--network", chosen.code, "--preset", given.preset, "--steps", str(given.steps)]
    parts += ["--seeds", *map(str, given.seeds), "--rows", *given.rows]
    return shlex.join([*parts, *(["--set", *given.changes] if given.changes else [])])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=coco_folder, required=True, help="a folder in COCO layout")
    parser.add_argument("--out", type=Path, required=True, help="a folder for rows and table")
    add_network(parser)
    parser.add_argument("--preset", default="laptop")
    parser.add_argument("--set", dest="changes", nargs="+", default=[], metavar="A.B=C")
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--rows", nargs="+", choices=CHANGES, default=[*CHANGES])
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)

    ablation = Ablation(given)
    missing = ablation.missing()
    if missing:
        expected_s = round(ablation.step_seconds() * given.steps * len(missing))
        cost = datetime.timedelta(seconds=expected_s)
        print(f"{len(missing)} trainings of {given.steps} steps: about {cost}", flush=True)
    for change, seed in missing:
        ablation.run(change, seed)
        write(ablation)
    write(ablation)
    print((given.out / "table.md").read_text())


def write(ablation: Ablation) -> None:
    given, order = ablation.given, [*CHANGES]
    rows = [r for r in ablation.done() if r["change"] in given.rows and r["seed"] in given.seeds]
    rows.sort(key=lambda row: order.index(row["change"]))
    command = command_of(given, ablation.chosen)
    text = table(rows, command, ablation.chosen, given.steps)
    atomic_write(given.out / "table.md", text.encode())


if __name__ == "__main__":
    main()
