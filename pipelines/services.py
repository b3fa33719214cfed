"""Servers on the loopback: Prefect's API, and what `frontier ui` and `frontier schedule` serve."""

import atexit
import contextlib
import os
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from frontier.errors import StageFailed
from frontier.files import read_json, write_json
from frontier.tracking import process_identity
from frontier.tracking.store import tracking_uri
from pipelines import processes
from pipelines.environment import prepare_environment
from pipelines.settings import Request, merge

HOST = "127.0.0.1"
PREFECT_PORT, MLFLOW_PORT, REPORT_PORT = 4200, 5000, 8080
START_S = 120.0


class Server:
    """A server process of ours and the address it answers at."""

    def __init__(
        self, root: Path, name: str, arguments: list[str], health: str, **extra: str
    ) -> None:
        log = root / ".work" / "logs" / f"{name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        self.name, self.health, self.log = name, health, log
        with log.open("wb") as output:
            self.process = processes.spawn(
                arguments, cwd=root, output=output, environment={**os.environ, **extra}
            )

    def wait(self) -> None:
        """Until it answers.

        Raises:
            StageFailed: it ended, or gave no answer within two minutes.
        """
        deadline = time.monotonic() + START_S
        while not answers(self.health):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise StageFailed(f"{self.name} server did not start; see {self.log}")
            time.sleep(0.1)


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return bool(response.status == 200)
    except OSError:
        return False


def prefect_api(root: Path, *, lasting: bool = False) -> Server | None:
    """Point prefect at the API that runs in this checkout, else start one.

    Does not wait, so that imports go on meanwhile: call `wait` on what it returns. A server that
    was started lives as long as this process and ends after prefect's own parting messages, since
    exit handlers run last in, first out: call before prefect is imported.

    Args:
        lasting: with scheduler and dashboard, and known to other commands.
    """
    url = os.environ.get("PREFECT_API_URL") or _running(root)
    if url:
        os.environ["PREFECT_API_URL"] = url
        return None
    port = processes.free_port(PREFECT_PORT)
    server = _prefect_server(root, port, lasting=lasting)
    atexit.register(processes.end, server.process)
    os.environ["PREFECT_API_URL"] = f"http://{HOST}:{port}/api"
    if lasting:
        identity = process_identity(server.process.pid)
        record = {"url": os.environ["PREFECT_API_URL"], "process": identity}
        write_json(root / ".prefect" / "server.json", record)
    return server


def _prefect_server(root: Path, port: int, *, lasting: bool) -> Server:
    application = ["--factory", "prefect.server.api.server:create_app", "--log-level", "error"]
    address = ["--host", HOST, "--port", str(port), "--lifespan", "on"]
    settings = {"PREFECT_SERVER_API_HOST": HOST, "PREFECT_SERVER_API_PORT": str(port)}
    if not lasting:
        settings |= {"PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1"}
    return Server(
        root,
        "prefect",
        ["-m", "uvicorn", *application, *address],
        f"http://{HOST}:{port}/api/health",
        PREFECT__SERVER_FINAL="1",
        **settings,
    )


def _running(root: Path) -> str | None:
    """The API of `frontier ui` or `frontier schedule`, if one runs here."""
    path = root / ".prefect" / "server.json"
    if not path.is_file():
        return None
    record = read_json(path)
    process = int(record["process"].split(":")[0])
    return str(record["url"]) if process_identity(process) == record["process"] else None


def ui(root: Path, console: Console) -> None:
    """Serve the dashboards until Ctrl-C."""
    prepare_environment(root)
    with contextlib.ExitStack() as stack:
        prefect = prefect_api(root, lasting=True)
        servers = [_mlflow_server(root), _report_server(root)]
        for server in servers:
            stack.callback(processes.end, server.process)
        for server in [*servers, *([prefect] if prefect else [])]:
            server.wait()
        console.print(f"MLflow   {servers[0].health.removesuffix('/health')}", highlight=False)
        console.print(
            f"Prefect  {os.environ['PREFECT_API_URL'].removesuffix('/api')}", highlight=False
        )
        console.print(f"report   {servers[1].health}page/index.html", highlight=False)
        console.print("Ctrl-C ends all three", highlight=False)
        _until_interrupted()


def _mlflow_server(root: Path) -> Server:
    port = processes.free_port(MLFLOW_PORT)
    store = ["--backend-store-uri", tracking_uri(root)]
    artifacts = ["--default-artifact-root", (root / "mlruns" / "artifacts").as_uri()]
    address = ["--host", HOST, "--port", str(port), "--workers", "1"]
    arguments = ["-m", "mlflow", "server", *store, *artifacts, *address]
    return Server(root, "mlflow", arguments, f"http://{HOST}:{port}/health")


def _report_server(root: Path) -> Server:
    port = processes.free_port(REPORT_PORT)
    folder = root / "data" / "report"
    folder.mkdir(parents=True, exist_ok=True)
    address = ["--bind", HOST, "--directory", str(folder), str(port)]
    return Server(root, "report", ["-m", "http.server", *address], f"http://{HOST}:{port}/")


def _until_interrupted() -> None:
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            time.sleep(1)


def schedule(
    root: Path, console: Console, cron: str, preset: str | None, assignments: Sequence[str]
) -> None:
    """Serve the retraining deployment until Ctrl-C.

    Raises:
        UsageError: `cron` is no cron expression, or a preset or key does not exist.
    """
    merge(root, Request(preset=preset, assignments=assignments))
    prepare_environment(root)
    server = prefect_api(root, lasting=True)
    from pipelines import retrain

    retrain.check_cron(cron)
    if server:
        server.wait()
    console.print(f"retraining at {cron!r} and on `dataset.changed`", highlight=False)
    console.print(f"Prefect  {os.environ['PREFECT_API_URL']}; Ctrl-C ends", highlight=False)
    with contextlib.suppress(KeyboardInterrupt):
        retrain.serve(cron, preset, list(assignments))


def emit_dataset_changed(root: Path) -> None:
    """Fire the event that a served schedule waits for.

    Raises:
        UsageError: no schedule is being served in this checkout.
    """
    from frontier.errors import UsageError

    prepare_environment(root)
    url = os.environ.get("PREFECT_API_URL") or _running(root)
    if url is None:
        raise UsageError("no schedule runs in this checkout; start `frontier schedule` first")
    os.environ["PREFECT_API_URL"] = url
    from pipelines import retrain

    retrain.emit_dataset_changed(root)
