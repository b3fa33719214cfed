"""A copy of this checkout to run in, and the command in it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
CODE = ("src", "pipelines", ".dvc/config", ".dvcignore", ".gitignore", "dvc.yaml", "params.yaml")


def copy(folder: Path) -> Path:
    """The checkout without Git, environment and results, as from an unpacked archive."""
    for name in CODE:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if (CHECKOUT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
            shutil.copytree(CHECKOUT / name, folder / name, ignore=ignored)
        else:
            shutil.copy(CHECKOUT / name, folder / name)
    return folder


def environment(root: Path) -> dict[str, str]:
    """The copy's own sources first, and no Prefect server of somebody else's."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    return {**clean, "PYTHONPATH": f"{root / 'src'}{os.pathsep}{root}", "PYTHONUNBUFFERED": "1"}


def frontier(root: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "frontier.cli", *arguments],
        cwd=root,
        env=environment(root),
        capture_output=True,
        text=True,
        timeout=900,
    )
