"""Settings that other programs read once, at their import: set before prefect or mlflow loads."""

import os
from pathlib import Path

PREFECT_PORT = 4200


def prepare_environment(root: Path) -> None:
    """Everything stays in the checkout, on this machine and quiet; a user's own setting wins."""
    settings = {
        "PREFECT_HOME": str(root / ".prefect"),
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
        "PREFECT_CLI_WRAP_LINES": "false",
        "DO_NOT_TRACK": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "GX_ANALYTICS_ENABLED": "false",
        "DVC_NO_ANALYTICS": "1",
    }
    for name, value in settings.items():
        os.environ.setdefault(name, value)
