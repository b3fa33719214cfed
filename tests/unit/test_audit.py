"""The audit of shared weights."""

from types import SimpleNamespace

import numpy as np
import pytest

from frontier.search.audit import Auditor
from frontier.search.quality import regret
from tests import tiny


def test_regret_is_what_the_believed_best_lack():
    true = np.array([0.5, 0.4, 0.3, 0.2])
    ms = np.array([1.0, 2.0, 3.0, 4.0])
    assert regret(true, true, ms, 1)["regret"] == 0
    assert regret(-true, true, ms, 1)["regret"] == pytest.approx(0.3)
    assert regret(-true, true, ms, 3)["regret"] == pytest.approx(0.1)
    assert regret(-true, true, ms, 1)["regret_in_bands"] == [0, 0, 0, 0]


def test_an_audit_goes_on_where_it_was_and_judges_by_networks_trained_alone(tmp_path, monkeypatch):
    search = SimpleNamespace(audit_networks=3, audit_steps=5)
    codes = [a.code for a in tiny.SPACE.seeds()]
    truth = dict(zip(codes, [0.1, 0.2, 0.3, 0.4, 0.5], strict=True))
    timed = [
        {"architecture": code, "AP": 0.6 - truth[code], "latency_p50_ms": float(place)}
        for place, code in enumerate(codes)
    ]
    asked = []

    def trained(self, architecture, number):
        asked.append(architecture.code)
        return truth[architecture.code], 0.0, 1.0

    monkeypatch.setattr(Auditor, "_trained", trained)
    auditor = Auditor(search, None, None, None, None, None, tmp_path)
    found = auditor.audit({"timed": timed})
    assert asked == [codes[0], codes[2], codes[4]]
    assert found["tau"] == pytest.approx(-1)  # shared weights had them backwards
    assert auditor.audit({"timed": timed}) == found
    assert len(asked) == 3
    none = SimpleNamespace(audit_networks=0)
    assert Auditor(none, None, None, None, None, None, tmp_path).audit({"timed": timed}) is None
