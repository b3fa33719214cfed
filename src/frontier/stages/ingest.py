"""Turn any supported dataset into the canonical catalog; faults are recorded, not judged."""

import tempfile
from pathlib import Path

from frontier import tracking
from frontier.data.generated import synthetic
from frontier.data.intake.assembly import Source, assemble
from frontier.data.intake.source import FORMATS, SYNTHETIC, dataset_folder, find_format
from frontier.params import Ingest, Run, Section, Workers
from frontier.stages import Inputs

OUT = "data/ingest"  # where `out` will lie, seen from the project root


class Params(Section):
    run: Run
    ingest: Ingest
    workers: Workers


def run(params: Params, inputs: Inputs, out: Path) -> dict[str, float]:
    """Write `catalog/`, `pretrain/` and the generated images they refer to."""
    metrics = _assembled(_main_source(params.ingest, inputs.root, out), out / "catalog", params)
    folder = out / "synthetic_objects365"
    synthetic.write_objects365(folder, params.ingest.pretrain)
    form, root = FORMATS["objects365"], f"{OUT}/{folder.name}"
    pretrain = Source("objects365", SYNTHETIC, form, folder, root, wanted=("train",))
    counts = _assembled(pretrain, out / "pretrain", params)
    tracking.log_artifact(out / "catalog" / "class_map.json")
    return metrics | {f"pretrain_{key}": value for key, value in counts.items()}


def _assembled(source: Source, folder: Path, params: Params) -> dict[str, float]:
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".spool-") as work:
        seed = params.run.seed
        return assemble(source, folder, Path(work), params.ingest, params.workers, seed)


def _main_source(params: Ingest, root: Path, out: Path) -> Source:
    recorded, wanted = dataset_folder(root, params.source), params.format
    folder = root / recorded
    unlabelled, unlabelled_root = params.unlabelled, params.unlabelled
    if params.source == SYNTHETIC:
        folder, recorded, wanted = out / SYNTHETIC, f"{OUT}/{SYNTHETIC}", "coco"
        synthetic.write_coco(folder, params.synthetic)
        if unlabelled is None and params.synthetic.unlabelled:
            unlabelled_root = f"{recorded}/unlabelled"
    form = find_format(folder, wanted, params.source)
    below = form.image_root(folder).relative_to(folder).as_posix()
    images = recorded if below == "." else f"{recorded}/{below}"
    given = root / unlabelled if unlabelled else folder / "unlabelled" if unlabelled_root else None
    return Source(folder.name, params.source, form, folder, images, given, unlabelled_root)
