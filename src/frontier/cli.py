"""The one command. Everything heavy is imported inside the commands, so that --help is quick."""

import os
import sys
import traceback
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from frontier.errors import FrontierError, UsageError
from frontier.files import project_root

app = typer.Typer(
    help="A dataset, a device and a latency budget in; a detector that meets them out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

pseudo = typer.Typer(help="Labels that the teacher gave.", no_args_is_help=True)
app.add_typer(pseudo, name="pseudo")

Set = Annotated[
    list[str] | None, typer.Option("--set", metavar="A.B=C", help="Change a value of params.yaml.")
]
Preset = Annotated[
    str | None, typer.Option(help="smoke, demo, laptop, gpu or objects365: set all recipe values.")
]


@app.command()
def run(
    data: Annotated[
        str | None, typer.Option(metavar="DIR", help="A COCO folder, or `synthetic`.")
    ] = None,
    unlabelled: Annotated[
        str | None, typer.Option(metavar="DIR", help="Images without labels.")
    ] = None,
    target: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Build for this target; repeatable.")
    ] = None,
    max_latency_ms: Annotated[
        float | None,
        typer.Option(
            help="Limit on the network's median latency, measured on this device; preparing the "
            "image and picking the detections come on top."
        ),
    ] = None,
    min_ap: Annotated[float | None, typer.Option(help="Least AP, 0 to 1.")] = None,
    budget: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Plan the whole run to take so long: 90m, 2h, 1h30m. The plan is shown first.",
        ),
    ] = None,
    architecture: Annotated[
        str | None,
        typer.Option(
            metavar="CODE|N|N:ROW",
            help="Train this architecture, or one of catalog entry N, without any search.",
        ),
    ] = None,
    from_catalog: Annotated[
        bool,
        typer.Option(
            "--from-catalog",
            help="Start the search from the catalog's frontiers of this device and space.",
        ),
    ] = False,
    set_: Set = None,
    preset: Preset = None,
    start: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="STAGE", help="Run this stage and all behind it, changed or not."
        ),
    ] = None,
    only: Annotated[
        str | None,
        typer.Option(metavar="STAGE", help="Run this stage alone, changed or not."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would run.")] = False,
) -> None:
    """Bring every stage up to date: dataset to shipped detector."""
    from pipelines import duration, launch, repro, settings

    root = project_root()
    budget_s = duration.parse(budget, "--budget") if budget else None
    if architecture and from_catalog:
        raise UsageError("--architecture searches nothing, --from-catalog starts a search: one")
    request = settings.Request(
        preset=preset,
        data=settings.project_path(root, data) if data else None,
        unlabelled=settings.project_path(root, unlabelled) if unlabelled else None,
        targets=target or (),
        max_latency_ms=max_latency_ms,
        min_ap=min_ap,
        architecture=architecture,
        assignments=set_ or (),
    )
    os.chdir(root)
    try:
        launch.run(
            root,
            request,
            _console(),
            launch.Selection(only, start),
            dry_run=dry_run,
            from_catalog=from_catalog,
            budget_s=budget_s,
        )
    except KeyboardInterrupt:
        raise repro.Cancelled("stopped; the same command goes on where it was") from None


@app.command()
def status() -> None:
    """Which stages are up to date, which would run, and which MLflow run made each."""
    from pipelines import looking

    looking.status(_enter(), _console())


@app.command()
def ui() -> None:
    """Serve the dashboards on this machine: MLflow, Prefect and the report."""
    from pipelines import services

    services.ui(_enter(), _console())


@app.command()
def report(
    browser: Annotated[bool, typer.Option(help="Open it in a browser.")] = True,
) -> None:
    """Print where the report page lies, and open it."""
    import webbrowser

    from pipelines import summary

    page = _enter() / summary.PAGE
    if not page.is_file():
        raise UsageError(f"{page}: no report yet; run `frontier run` first")
    print(page)
    if browser:
        webbrowser.open(page.as_uri())


@app.command()
def space(
    architecture: Annotated[
        str | None,
        typer.Argument(metavar="CODE", help="An architecture code, or yolo_nas_s, _m or _l."),
    ] = None,
) -> None:
    """How large the search space is and what it is made of, or one architecture as a table."""
    from pipelines import explaining

    explaining.space(project_root(), _console(), architecture)


@app.command()
def explain(
    target: Annotated[str | None, typer.Option(metavar="NAME", help="Whose search.")] = None,
    undo: Annotated[
        str | None,
        typer.Option(metavar="EDIT", help="Show the answer without this edit: number or words."),
    ] = None,
) -> None:
    """How the recommended architecture came from the baseline, edit by edit, in ms and AP."""
    from pipelines import explaining

    explaining.explain(project_root(), _console(), target, undo)


@app.command("catalog")
def catalog_(
    action: Annotated[str | None, typer.Argument(metavar="[show N]")] = None,
    number: Annotated[int | None, typer.Argument(metavar="", min=1)] = None,
) -> None:
    """The frontiers of all searches so far, by device and runtime; `show N`: one of them."""
    from pipelines import catalog

    if (action, number is None) not in {(None, True), ("show", False)}:
        raise UsageError("frontier catalog, or frontier catalog show N")
    catalog.show(_enter(), _console(), number)


@app.command()
def predict(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...")],
    output: Annotated[Path, typer.Option(help="Folder for the drawn images.")] = Path(
        "predictions"
    ),
    target: Annotated[str | None, typer.Option(metavar="NAME", help="Whose bundle.")] = None,
    min_score: Annotated[float, typer.Option(min=0.0, max=1.0)] = 0.3,
) -> None:
    """Draw the exported detector's detections on images."""
    from pipelines import looking

    looking.predict(project_root(), images, output, target, min_score)


@pseudo.command()
def review(
    images: Annotated[int, typer.Option(min=1, help="How many, the least sure first.")] = 100,
) -> None:
    """List pseudo-labels, with a page of pictures, for you to accept or strike."""
    from pipelines import reviewing

    reviewing.review(project_root(), _console(), images)


@app.command("export-data")
def export_data(
    form: Annotated[str, typer.Argument(metavar="FORM", help="coco, yolo or voc.")],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new folder.")],
) -> None:
    """Write the dataset as it is used, faults left out, for other tools to read."""
    from pipelines import looking

    looking.export_data(project_root(), _console(), folder, form)


@app.command()
def schedule(
    cron: Annotated[str, typer.Option(help="When to retrain.")] = "0 2 * * *",
    set_: Set = None,
    preset: Preset = None,
    emit: Annotated[
        bool, typer.Option("--emit", help="Tell a served schedule that the dataset changed.")
    ] = False,
) -> None:
    """Retrain by the clock and whenever `dataset.changed` is emitted, until Ctrl-C."""
    from pipelines import services

    root = _enter()
    if emit:
        services.emit_dataset_changed(root)
    else:
        services.schedule(root, _console(), cron, preset, set_ or [])


@app.command()
def promote(
    target: Annotated[str, typer.Argument(metavar="TARGET")],
    version: Annotated[
        str | None, typer.Option(help="Point the champion here by hand; the way back as well.")
    ] = None,
) -> None:
    """Put the challenger to the champion, or name a version champion by hand."""
    from pipelines import challenge

    challenge.promote(_enter(), _console(), target, version)


def _console() -> Console:
    """A file or pipe has no width of its own."""
    return Console(width=None if sys.stdout.isatty() else 120)


def _enter() -> Path:
    root = project_root()
    os.chdir(root)
    return root


def main() -> None:
    """The console script: errors in words and their exit code, no traceback."""
    try:
        app()
    except FrontierError as error:
        print(f"frontier: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except Exception as error:
        where = _keep_traceback(traceback.format_exc())
        print(f"frontier: internal error: {error!r}; {where}", file=sys.stderr)
        sys.exit(1)


def _keep_traceback(text: str) -> str:
    """Where the details are: in the checkout's log, outside of one no file is made."""
    try:
        log = project_root() / ".work" / "logs" / "crash.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text(text)
    except (FrontierError, OSError):
        return f"details:\n{text}"
    return f"details in {log}"


if __name__ == "__main__":
    main()
