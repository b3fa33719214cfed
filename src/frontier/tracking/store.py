"""MLflow's store: opened by one process alone, and the small translations into its terms."""

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from frontier.files import lock
from frontier.params import load_yaml
from frontier.tracking import process_identity

EXPERIMENT = "frontier"


def quiet_environment() -> None:
    """No telemetry, no progress bars; before mlflow is imported."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("DO_NOT_TRACK", "1")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")


def tracking_uri(root: Path) -> str:
    return f"sqlite:///{root / 'mlruns' / 'mlflow.db'}"


def connect(root: Path) -> tuple[Any, str]:
    """The client and the experiment's id; a fresh database is made by one process, alone."""
    quiet_environment()
    import mlflow
    from mlflow.utils.logging_utils import disable_logging

    logging.getLogger("alembic").setLevel(logging.ERROR)
    disable_logging()  # type: ignore[no-untyped-call]
    (root / "mlruns" / "artifacts").mkdir(parents=True, exist_ok=True)
    with lock(root / ".work" / "locks" / "mlflow.lock"):
        mlflow.set_tracking_uri(tracking_uri(root))
        client = mlflow.MlflowClient()
        experiment = client.get_experiment_by_name(EXPERIMENT)
        if experiment is not None:
            return client, experiment.experiment_id
        artifacts = (root / "mlruns" / "artifacts").as_uri()
        return client, client.create_experiment(EXPERIMENT, artifact_location=artifacts)


def end_abandoned(client: Any, experiment: str) -> None:
    """End as KILLED every run whose process is gone, as after `kill -9`."""
    running = client.search_runs([experiment], "attributes.status = 'RUNNING'", max_results=1000)
    for run in running:
        process = run.data.tags.get("frontier.process")
        if process and process != process_identity(int(process.split(":")[0])):
            client.set_terminated(run.info.run_id, "KILLED")


def process_tags() -> dict[str, str]:
    return {"frontier.process": process_identity(os.getpid())}


def metrics_at(values: Mapping[str, float], step: int, when: float) -> list[Any]:
    from mlflow.entities import Metric

    return [Metric(name, value, int(when * 1000), step) for name, value in values.items()]


def start_monitor(run_id: str | None) -> Any:
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

    monitor = SystemMetricsMonitor(  # type: ignore[no-untyped-call]
        run_id, sampling_interval=5, samples_before_logging=1
    )
    monitor.start()  # type: ignore[no-untyped-call]
    return monitor


def lock_entries(root: Path, stage: str, kind: str) -> dict[str, str]:
    """Path -> DVC hash of a stage's `deps` or `outs`, from dvc.lock."""
    if not (root / "dvc.lock").is_file():  # the very first stage has failed
        return {}
    entry = load_yaml(root / "dvc.lock")["stages"].get(stage, {})
    return {item["path"]: item["md5"] for item in entry.get(kind, [])}
