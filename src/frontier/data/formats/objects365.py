"""Objects365 v2: COCO-like JSON whose images lie in patch folders.

`file_name` reads `images/v2/patch8/objects365_v2_00420917.jpg`; the downloads unpack to that very
path, to `train/patch8/...` or to `patch8/...`.

Reference: Shao et al. 2019, "Objects365: A Large-Scale, High-Quality Dataset for Object Detection".
"""

from pathlib import Path, PurePosixPath

from frontier.data.formats import Parsed, coco

ANNOTATIONS = "zhiyuan_objv2_train.json"


def read(folder: Path) -> Parsed:
    """Read the training annotations of an Objects365 folder.

    Raises:
        DataError: the annotation file is not JSON at all.
    """
    parsed = coco.read(folder / ANNOTATIONS)
    prefix = _prefix(folder, parsed)
    parsed.images = [r._replace(file_name=_place(r.file_name, prefix)) for r in parsed.images]
    return parsed


def _prefix(folder: Path, parsed: Parsed) -> str | None:
    """Where the patch folders lie below `folder`; None means as `file_name` says."""
    if not parsed.images or (folder / parsed.images[0].file_name).exists():
        return None
    return "train" if (folder / "train").is_dir() else ""


def _place(file_name: str, prefix: str | None) -> str:
    if prefix is None:
        return file_name
    return PurePosixPath(prefix, *PurePosixPath(file_name).parts[-2:]).as_posix()
