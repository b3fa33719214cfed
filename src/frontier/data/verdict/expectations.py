"""The rules as Great Expectations suites: its verdict, and its own pages (Data Docs)."""

import importlib
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pandas as pd

from frontier.data.verdict.rules import Rule

STYLE = (
    "<style>body{font:15px/1.5 sans-serif;margin:1rem auto;max-width:75rem;padding:0 1rem}"
    "table{border-collapse:collapse}td,th{border:1px solid #ccc;padding:.25rem .6rem}"
    "img,svg,button,footer,input,label,.modal{display:none!important}a{color:#0645ad}"
    ".fa{font-style:normal}.fa-check-circle::before{content:'ok'}.fa-times::before{content:'failed'}</style>"
)


def judge(tables: dict[str, pd.DataFrame], rules: list[Rule], docs: Path) -> list[dict[str, Any]]:
    """Validate each table by its rules and write the Data Docs.

    Args:
        tables: by name; what a rule reads there stands at `rules.Rule`.
        docs: folder for the pages, readable without a network.

    Returns:
        One entry per rule: code, severity, success, unexpected, total, message.
    """
    context = _context(docs)
    source = context.data_sources.add_pandas("catalog")
    entries = []
    for name, table in tables.items():
        own = [rule for rule in rules if rule.table == name]
        columns = table[[rule.column for rule in own]]
        results = _validate(context, source, name, columns, own)
        entries += [_entry(r, columns, result) for r, result in zip(own, results, strict=True)]
    context.build_data_docs()
    _unlink_network(docs)
    order = {rule.code: place for place, rule in enumerate(rules)}
    return sorted(entries, key=lambda entry: order[entry["code"]])


def _library() -> Any:
    """Great Expectations, imported late: it takes seconds."""
    return importlib.import_module("great_expectations")


def _context(docs: Path) -> Any:
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    from great_expectations.data_context.types.base import ProgressBarsConfig

    context = _library().get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    for site in context.get_site_names():
        context.delete_data_docs_site(site)
    store = {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(docs.resolve())}
    index = {"class_name": "DefaultSiteIndexBuilder"}
    config = {"class_name": "SiteBuilder", "site_index_builder": index, "store_backend": store}
    context.add_data_docs_site(site_name="frontier", site_config=config)
    return context


def _validate(
    context: Any, source: Any, name: str, table: pd.DataFrame, rules: list[Rule]
) -> list[Any]:
    """Run one suite; the results come in the order of `rules`."""
    gx = _library()
    asset = source.add_dataframe_asset(name)
    batch = asset.add_batch_definition_whole_dataframe("all")
    suite = context.suites.add(gx.ExpectationSuite(name=name))
    for rule in rules:
        suite.add_expectation(_expectation(gx, rule))
    definition = gx.ValidationDefinition(name=name, data=batch, suite=suite)
    validation = context.validation_definitions.add(definition)
    outcome = validation.run(batch_parameters={"dataframe": table}, result_format="SUMMARY")
    by_code = {r.expectation_config.meta["code"]: r for r in outcome.results}
    return [by_code[rule.code] for rule in rules]


def _expectation(gx: Any, rule: Rule) -> Any:
    told = {"severity": rule.severity, "meta": {"code": rule.code}, "notes": rule.message}
    if rule.share is None:
        between = gx.expectations.ExpectColumnValuesToBeBetween
        return between(column=rule.column, max_value=rule.limit, **told)
    in_set = gx.expectations.ExpectColumnValuesToBeInSet
    return in_set(column=rule.column, value_set=[True], mostly=rule.share, **told)


def _entry(rule: Rule, table: pd.DataFrame, result: Any) -> dict[str, Any]:
    counted = rule.table == "records"  # one row that counts
    unexpected = result.result.get("unexpected_count", 0)
    return {
        "code": rule.code,
        "severity": rule.severity,
        "success": bool(result.success),
        "unexpected": int(table[rule.column].sum() if counted else unexpected),
        "total": None if counted else int(result.result.get("element_count", 0)),
        "message": rule.message,
    }


def _unlink_network(docs: Path) -> None:
    """Make the pages whole without a network: no outside links, a plain style, a plain index."""
    outside = re.compile(
        r"<(?:link|img)[^>]*https?://[^>]*>|url\(['\"]?https?://[^)]*\)"
        r"|<script[^>]*src=[\"']https?://[^>]*>\s*</script>",
        re.IGNORECASE,
    )
    for page in docs.rglob("*.html"):
        text = outside.sub("", page.read_text())
        page.write_text(text.replace("</head>", f"{STYLE}</head>", 1))
    for unused in ("fonts", "images"):
        shutil.rmtree(docs / "static" / unused, ignore_errors=True)
    (docs / "index.html").write_text(_index(docs))


def _index(docs: Path) -> str:
    """A list of the pages; the one that is made for us draws its table with a script from a CDN."""
    rows = ""
    for page in sorted(docs.glob("validations/**/*.html")):
        link = page.relative_to(docs)
        suite = link.parts[1]
        rows += (
            f"<li><a href='{link.as_posix()}'>{suite}: what was found</a>, "
            f"<a href='expectations/{suite}.html'>what is expected</a></li>"
        )
    head = f"<meta charset='utf-8'><title>Data Docs</title>{STYLE}"
    return f"<!doctype html><html><head>{head}</head><body><h1>Data Docs</h1><ul>{rows}</ul></body>"
