"""The flow that keeps a champion: on a schedule, and whenever `dataset.changed` is emitted.

Import only after `environment.prepare_environment`: prefect reads its settings once.
"""

import os
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.client.schemas.schedules import CronSchedule
from prefect.events import DeploymentEventTrigger, emit_event
from rich.console import Console

from frontier.errors import UsageError
from frontier.files import project_root
from pipelines import launch, settings

EVENT = "dataset.changed"


@flow(name="retrain")
def retrain(preset: str | None = None, assignments: list[str] | None = None) -> dict[str, Any]:
    """Produce a challenger from the data as it is now, and let the gate decide."""
    root = project_root()
    os.chdir(root)
    request = settings.Request(preset=preset, assignments=assignments or ())
    return launch.run(root, request, Console(), compare=True)


def check_cron(cron: str) -> None:
    """By prefect's own rules, before anything is served.

    Raises:
        UsageError: it is no cron expression.
    """
    try:
        CronSchedule(cron=cron)
    except ValueError:
        raise UsageError(
            f"--cron {cron!r}: no cron expression; five fields as in '0 2 * * *': "
            "minute, hour, day, month, weekday"
        ) from None


def serve(cron: str, preset: str | None, assignments: list[str]) -> None:
    """Serve the deployment until interrupted; one run at a time."""
    retrain.serve(
        name="retrain",
        cron=cron,
        triggers=[DeploymentEventTrigger(expect={EVENT})],
        parameters={"preset": preset, "assignments": assignments},
        limit=1,
        pause_on_shutdown=False,
        print_starting_message=False,
    )


def emit_dataset_changed(root: Path) -> None:
    """Tell the served deployment that the dataset has new images or labels."""
    emit_event(EVENT, resource={"prefect.resource.id": f"frontier.dataset.{root.name}"})
