"""Seconds and memory that `ingest` and `validate` take for annotations at Objects365's size.

python tests/bench/catalog.py --scales 0.01 0.1 1 --out DIR

Each scale is generated (`objects365.py`; its images do not exist, so none is opened) and run in a
process of its own. What was planted must be found, or the run is an error.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import objects365

from frontier.data.intake.assembly import Source, assemble
from frontier.data.intake.source import FORMATS
from frontier.files import read_json
from frontier.params import load_params
from frontier.stages import Inputs, validate

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
    with tempfile.TemporaryDirectory() as scratch:
        for scale in args.scales:
            folder = (args.out or Path(scratch)) / f"{scale:g}"
            if not (folder / "planted.json").is_file():
                objects365.write(folder, scale, seed=0)
            command = [sys.executable, __file__, "--folder", str(folder)]
            print(
                subprocess.run(
                    command, check=True, stdout=subprocess.PIPE, text=True
                ).stdout.strip()
            )


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
        section = validate.Params(run=params.run, validate=params.validate_)
        inputs = Inputs(root, ("data/ingest",), None, root / "work")
        counts = validate.run(section, inputs, root / "data" / "validate")
        ended = time.monotonic()
        entries = read_json(root / "data" / "validate" / "judged" / "verdict.json")["expectations"]
    planted = read_json(folder / "planted.json")
    check(planted, counts, {entry["code"]: entry["unexpected"] for entry in entries})
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {
        "images": planted["images"],
        "boxes": planted["boxes"],
        "ingest_s": round(ingested - started, 1),
        "validate_s": round(ended - ingested, 1),
        "us_per_box": round((ended - started) / planted["boxes"] * 1e6, 2),
        "peak_gib": round(peak, 2),
    }


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
