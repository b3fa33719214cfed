"""The model card, in markdown (Mitchell et al. 2019, arXiv:1810.03993)."""

import re

from frontier.report.page import device_name, environment
from frontier.report.results import Results


def _plain(text: object) -> str:
    """The user's text as markdown shows it, whatever it holds."""
    return re.sub(r"([\\`*_{}\[\]()<>#+!|~&-])", r"\\\1", " ".join(str(text).split()))


def render(results: Results) -> str:
    made = environment(autoescape=False)
    made.filters["plain"] = _plain
    return made.get_template("card.md.j2").render(
        results=results, device=device_name(results.hardware)
    )
