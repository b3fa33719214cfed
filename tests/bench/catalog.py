"""Seconds and memory that `ingest` and `validate` take for annotations at Objects365's size.

python tests/bench/catalog.py --scales 0.01 0.1 1 --out DIR

Each scale is generated (`objects365.py`; its images do not exist, so none is opened) and run in a
process of its own. What was planted must be found, at Objects365's size within `MOST_S` and
`MOST_GIB`, and time per box and memory may not grow from one scale to the next by more than `FLAT`;
else the run is an error.
"""

import argparse
import itertools
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import objects365

from frontier.data.generated import synthetic
from frontier.data.intake.assembly import Source, assemble
from frontier.data.intake.source import FORMATS
from frontier.files import read_json
from frontier.params import Params, load_params
from frontier.stages import Inputs, validate

MOST_S, MOST_GIB = 900.0, 4.0
FLAT = 1.25  # times; scales below a tenth are mostly start-up
PARAMS = Path(__file__).parents[2] / "params.yaml"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--scales", type=float, nargs="+", default=[0.01, 0.1])
    parser.add_argument(
        "--out", type=Path, help="keeps the generated files; else a temporary folder"
    )
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)  # one run, in this process
    args = parser.parse_args()
    if args.folder:
        print(json.dumps(measured(args.folder)))
        return
    rows = {}
    with tempfile.TemporaryDirectory() as scratch:
        for scale in sorted(args.scales):
            folder = (args.out or Path(scratch)) / f"{scale:g}"
            if not (folder / "planted.json").is_file():
                objects365.write(folder, scale, seed=0)
            command = [sys.executable, __file__, "--folder", str(folder)]
            run = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            print(run.stdout.strip(), flush=True)
            rows[scale] = json.loads(run.stdout)
    if missed := [*missed_bars(rows)]:
        raise SystemExit("\n".join(missed))


def measured(folder: Path) -> dict[str, float]:
    """Seconds of both stages, time per box and peak memory; checks what was found."""
    params = load_params(PARAMS)
    unopened = params.ingest.model_copy(update={"check_images": False})
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        root = Path(scratch)
        (root / "work").mkdir()
        (root / "data" / "validate").mkdir(parents=True)
        source = Source(folder.name, str(folder), FORMATS["objects365"], folder, str(folder))
        started = time.monotonic()
        catalog = root / "data" / "ingest" / "catalog"
        assemble(source, catalog, root / "work", unopened, params.workers, params.run.seed)
        ingested = time.monotonic()
        small(root, params)
        section = validate.Params(run=params.run, validate=params.validate_)
        inputs = Inputs(root, ("data/ingest",), None, root / "work")
        counts = validate.run(section, inputs, root / "data" / "validate")
        ended = time.monotonic()
        entries = read_json(root / "data" / "validate" / "judged" / "verdict.json")["expectations"]
    planted = read_json(folder / "planted.json")
    check(planted, counts, {entry["code"]: entry["unexpected"] for entry in entries})
    # not ru_maxrss, which begins with that of the process that started this one
    told = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert told
    return {
        "images": planted["images"],
        "boxes": planted["boxes"],
        "ingest_s": round(ingested - started, 1),
        "validate_s": round(ended - ingested, 1),
        "us_per_box": round((ended - started) / planted["boxes"] * 1e6, 2),
        "peak_gib": round(int(told[1]) / 2**20, 2),
    }


def small(root: Path, params: Params) -> None:
    """The pretraining set, which `validate` looks at too: one image."""
    folder, given = root / "small", params.ingest.pretrain.model_copy(update={"train": 1})
    synthetic.write_objects365(folder, given)
    source = Source("small", "small", FORMATS["objects365"], folder, "small", wanted=("train",))
    (root / "spools").mkdir()
    catalog = root / "data" / "ingest" / "pretrain"
    assemble(source, catalog, root / "spools", params.ingest, params.workers, params.run.seed)


def missed_bars(rows: dict[float, dict[str, float]]) -> Iterator[str]:
    """What is above its bar, in words; `rows` by scale, ascending."""
    if full := rows.get(1.0):
        seconds = full["ingest_s"] + full["validate_s"]
        if seconds > MOST_S or full["peak_gib"] > MOST_GIB:
            told = f"{seconds:.0f} s and {full['peak_gib']} GiB"
            yield f"at scale 1: {told}; at most {MOST_S:g} s and {MOST_GIB:g} GiB"
    compared = [scale for scale in rows if scale >= 0.1]
    for smaller, larger in itertools.combinations(compared, 2):
        for key in ("us_per_box", "peak_gib"):
            less, more = rows[smaller][key], rows[larger][key]
            if more > FLAT * less:
                yield f"{key}: {less} at scale {smaller:g}, {more} at {larger:g}: not flat"


def check(planted: dict[str, int], counts: dict[str, float], unexpected: dict[str, int]) -> None:
    """What was planted was found, and nothing else."""
    wanted = {
        "images_in": planted["images"],
        "boxes_in": planted["boxes"],
        "boxes_repaired": planted["outside_boxes"],
        "boxes_dropped": planted["duplicate_boxes"],
    }
    found = {key: int(counts[key]) for key in wanted}
    if found != wanted:
        raise SystemExit(f"planted {wanted}, found {found}")
    print(unexpected, file=sys.stderr)


if __name__ == "__main__":
    main()
