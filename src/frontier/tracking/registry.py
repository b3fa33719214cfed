"""Exported detectors in MLflow's registry: one model per target, aliases challenger and champion.

A champion is a champion on a device, so each target has its own.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from frontier.errors import UsageError
from frontier.files import MANIFEST, sha256

CHAMPION = "champion"
CHALLENGER = "challenger"
DIGEST_TAG = "frontier.bundle_sha256"
BUNDLE_TAG = "frontier.bundle"


def model_name(target: str) -> str:
    return f"frontier-{target}"


def digest(bundle: Path) -> str:
    """Names a bundle by its content."""
    return sha256(bundle / MANIFEST)


def register(client: Any, run_id: str, target: str, bundle: Path, facts: Mapping[str, str]) -> Any:
    """The model version of a bundle, made unless it exists; it becomes the challenger.

    Args:
        bundle: the exported folder, `model.onnx` in it.
        facts: tags of the version, AP and latency among them.
    """
    name, content = model_name(target), digest(bundle)
    version = _find(client, name, content) or _make(client, run_id, target, bundle, content)
    for tag, value in facts.items():
        client.set_model_version_tag(name, version.version, tag, value)
    client.set_registered_model_alias(name, CHALLENGER, version.version)
    return version


def by_alias(client: Any, target: str, alias: str) -> Any | None:
    """The version that an alias points to, None where it points nowhere.

    Any other trouble is raised as it is: "no champion" would let a challenger in unopposed.
    """
    from mlflow.exceptions import MlflowException

    try:
        return client.get_model_version_by_alias(model_name(target), alias)
    except MlflowException as error:
        missing_model = error.error_code == "RESOURCE_DOES_NOT_EXIST"
        # what MLflow answers where the model exists and the alias does not
        missing_alias = error.error_code == "INVALID_PARAMETER_VALUE" and (
            f"alias {alias} not found" in error.message
        )
        if missing_model or missing_alias:
            return None
        raise


def promote(client: Any, target: str, version: str) -> None:
    """Point the champion alias at a version: one atomic change, and the way back as well.

    Raises:
        UsageError: no such version.
    """
    from mlflow.exceptions import MlflowException

    try:
        client.set_registered_model_alias(model_name(target), CHAMPION, version)
    except MlflowException as error:
        raise UsageError(f"{model_name(target)} version {version}: {error.message}") from error


def download_bundle(version: Any, folder: Path) -> Path:
    """A registered bundle, copied into `folder`."""
    import mlflow

    uri = version.tags[BUNDLE_TAG]
    folder.mkdir(parents=True, exist_ok=True)
    return Path(mlflow.artifacts.download_artifacts(uri, dst_path=str(folder)))


def _find(client: Any, name: str, content: str) -> Any | None:
    versions = client.search_model_versions(f"name='{name}'")
    return next((v for v in versions if v.tags.get(DIGEST_TAG) == content), None)


def _make(client: Any, run_id: str, target: str, bundle: Path, content: str) -> Any:
    """Log the model as MLflow's own onnx flavour, and beside it the bundle as it was exported."""
    import mlflow
    import onnx

    name = model_name(target)
    with mlflow.start_run(run_id=run_id):
        mlflow.onnx.log_model(
            onnx.load(bundle / "model.onnx"),
            name=f"model-{target}",
            registered_model_name=name,
            pip_requirements=["onnxruntime"],
            onnx_execution_providers=["CPUExecutionProvider"],
        )
    # start_run has ended the run; the flow goes on in it
    client.update_run(run_id, status="RUNNING")
    client.log_artifacts(run_id, str(bundle), f"bundle-{target}")
    versions = client.search_model_versions(f"name='{name}' and run_id='{run_id}'")
    version = max(versions, key=lambda v: int(v.version))
    client.set_model_version_tag(name, version.version, DIGEST_TAG, content)
    uri = f"runs:/{run_id}/bundle-{target}"
    client.set_model_version_tag(name, version.version, BUNDLE_TAG, uri)
    return client.get_model_version(name, version.version)
