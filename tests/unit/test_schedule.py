"""The schedule is checked before anything is served."""

import os
from pathlib import Path
from unittest import mock

import pytest

from frontier.errors import UsageError
from pipelines.environment import prepare_environment


def test_a_cron_expression_is_one_or_is_named(tmp_path: Path) -> None:
    with mock.patch.dict(os.environ):
        prepare_environment(tmp_path)
        from pipelines import retrain

    retrain.check_cron("0 2 * * *")
    for cron in ("nightly", "0 25 * * *", "* * *", ""):
        with pytest.raises(UsageError, match=f"--cron {cron!r}".replace("*", r"\*")):
            retrain.check_cron(cron)
