"""The frontiers of all searches, in MLflow's registry: one model, one version per search."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from frontier.errors import UsageError

NAME = "frontier-catalog"
DIGEST_TAG = "frontier.entry_sha256"
FILE = "entry.json"
Entry = dict[str, Any]


def keep(client: Any, run_id: str, entry: Mapping[str, Any], tags: Mapping[str, str]) -> int:
    """The number of an entry in the catalog, where it is put unless an equal one is there."""
    content = hashlib.sha256(json.dumps(entry, sort_keys=True).encode()).hexdigest()
    for version in _versions(client):
        if version.tags.get(DIGEST_TAG) == content:
            return int(version.version)
    folder = f"catalog-{entry['target']}"
    client.log_dict(run_id, dict(entry), f"{folder}/{FILE}")
    _ensure_model(client)
    version = client.create_model_version(
        NAME,
        f"runs:/{run_id}/{folder}",
        run_id,
        tags={**tags, DIGEST_TAG: content},
    )
    return int(version.version)


def entries(client: Any) -> dict[int, Entry]:
    """Every entry by its number, oldest first."""
    import mlflow

    found = {int(v.version): v.source for v in _versions(client)}
    return {
        number: dict(mlflow.artifacts.load_dict(f"{found[number]}/{FILE}"))
        for number in sorted(found)
    }


def entry(client: Any, number: int) -> Entry:
    """One entry.

    Raises:
        UsageError: there is none of that number; names those there are.
    """
    known = entries(client)
    if number not in known:
        there = ", ".join(map(str, known)) or "none yet; a search makes the first"
        raise UsageError(f"catalog entry {number}: not there; there are {there}")
    return known[number]


def _versions(client: Any) -> list[Any]:
    return list(client.search_model_versions(f"name='{NAME}'"))


def _ensure_model(client: Any) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(NAME, description="Frontiers by device and runtime")
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
