"""Turn any supported dataset into the canonical catalog; faults are recorded, not judged."""

import tempfile
from pathlib import Path

from frontier import tracking
from frontier.data.formats import Format
from frontier.data.generated import synthetic
from frontier.data.intake.assembly import Source, assemble
from frontier.data.intake.source import AUTO, FORMATS, SYNTHETIC, dataset_folder, find_format
from frontier.params import Ingest, Run, Section, SyntheticPretrain, Workers
from frontier.stages import Inputs

OUT = "data/ingest"  # where `out` will lie, seen from the project root


class Params(Section):
    run: Run
    ingest: Ingest
    workers: Workers


def run(params: Params, inputs: Inputs, out: Path) -> dict[str, float]:
    """Write `catalog/`, `pretrain/` and the generated images they refer to."""
    metrics = _assembled(_main_source(params.ingest, inputs.root, out), out / "catalog", params)
    pretrain = _pretrain_source(params.ingest.pretrain, inputs.root, out)
    counts = _assembled(pretrain, out / "pretrain", params)
    tracking.log_artifact(out / "catalog" / "class_map.json")
    return metrics | {f"pretrain_{key}": value for key, value in counts.items()}


def _assembled(source: Source, folder: Path, params: Params) -> dict[str, float]:
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".spool-") as work:
        seed = params.run.seed
        return assemble(source, folder, Path(work), params.ingest, params.workers, seed)


def _pretrain_source(params: SyntheticPretrain, root: Path, out: Path) -> Source:
    if params.source == SYNTHETIC:
        folder = out / "synthetic_objects365"
        synthetic.write_objects365(folder, params)
        form, images = FORMATS["objects365"], f"{OUT}/{folder.name}"
        return Source("objects365", SYNTHETIC, form, folder, images, wanted=("train",))
    recorded = dataset_folder(root, params.source)
    form = find_format(root / recorded, AUTO, params.source)
    images = _image_root(form, root / recorded, recorded)
    return Source(
        root.joinpath(recorded).name,
        params.source,
        form,
        root / recorded,
        images,
        wanted=("train",),
    )


def _image_root(form: Format, folder: Path, recorded: str) -> str:
    below = form.image_root(folder).relative_to(folder).as_posix()
    return recorded if below == "." else f"{recorded}/{below}"


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
    images = _image_root(form, folder, recorded)
    given = root / unlabelled if unlabelled else folder / "unlabelled" if unlabelled_root else None
    return Source(folder.name, params.source, form, folder, images, given, unlabelled_root)
