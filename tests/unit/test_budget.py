"""`--budget`: written durations, a plan that fits, and what is told of it in the end."""

from dataclasses import replace
from pathlib import Path

import pytest

from frontier.errors import UsageError
from frontier.files import write_json
from frontier.params import Params, load_params, parse_params
from pipelines import budget, costs, duration
from pipelines.budget import REDUCED, Plan
from pipelines.calibration import Rates
from pipelines.costs import RUN, Costs, Images, Record

CHECKOUT = Path(__file__).resolve().parents[2]
TARGET = "onnxruntime-cpu"
RATES = Rates(
    stage_s=3.0,
    detect_largest_s=0.01,
    detect_s=0.005,
    batch_s=0.1,
    evaluation_s=0.5,
    step_s={"pretrain": 1.0, "teacher": 1.0, "supernet": 3.0, "distill": 0.5},
    timed_s={TARGET: 4.0, "openvino-cpu": 4.0},
    query_s={TARGET: 0.01, "openvino-cpu": 0.01},
    groups=20,
)
IMAGES = Images(480, 96, 160, 240, 480)
STAGES = [
    "ingest", "validate", "pack", "pretrain", "teacher", "pseudo_label", "supernet",
    f"search@{TARGET}", f"distill@{TARGET}", f"quantize@{TARGET}", "quantize@tensorrt",
    f"export@{TARGET}", "export@tensorrt", f"evaluate@{TARGET}", "evaluate@tensorrt", "report",
]  # fmt: skip
KNOWN = Costs(RATES, IMAGES, {})


def params(**values: object) -> Params:
    """The committed ones, on a scale of hours: 48 evaluations, 16 finalists, long trainings."""
    given = load_params(CHECKOUT / "params.yaml").model_dump(mode="json", by_alias=True)
    for name, steps in {"pretrain": 1500, "teacher": 2000, "supernet": 1500}.items():
        given[name]["steps"] = steps
    given["distill"]["steps"] = 2000
    given["search"] |= {"evaluations": 48, "finalists": 16}
    return parse_params({**given, **values})


def planned(budget_s: float, own: Params | None = None, known: Costs = KNOWN) -> Plan:
    own = own or params()
    base = budget._values(own, budget.PLANNED)
    return budget.make(own, base, budget_s, known, STAGES, "others")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90m", 5400), ("2h", 7200), ("1h30m", 5400), ("45s", 45), ("1.5h", 5400), (" 2H ", 7200)],
)
def test_durations_are_read(text: str, seconds: float) -> None:
    assert duration.parse(text, "--budget") == seconds


@pytest.mark.parametrize("text", ["", "2", "2x", "m", "h30", "-5m", "30m1h", "0m", "two hours"])
def test_what_is_no_duration_is_told_with_an_example(text: str) -> None:
    with pytest.raises(UsageError, match=r"--budget .*no duration; write it like 90m"):
        duration.parse(text, "--budget")


@pytest.mark.parametrize("seconds", [59, 61, 3600, 3601, 5340, 90061])
def test_a_least_duration_is_no_less_and_can_be_typed(seconds: float) -> None:
    assert 0 <= duration.parse(duration.whole_minutes(seconds), "--budget") - seconds < 60


@pytest.mark.parametrize("budget_s", [1500, 3600, 7200, 20_000])
def test_a_plan_uses_the_budget_and_stays_within(budget_s: float) -> None:
    plan = planned(budget_s)
    assert sum(plan.seconds.values()) == pytest.approx(budget_s, abs=0.5)
    assert {*plan.seconds} == {*STAGES, RUN}


def test_everything_is_reduced_alike() -> None:
    plan, own = planned(3600), params()
    ratios = [
        plan.values[key] / plan.base[key] for key in ("search.evaluations", "search.finalists")
    ]
    trained = plan.values["train.budget_s"] / budget._wanted_training_s(own, KNOWN)
    assert all(ratio == pytest.approx(trained, abs=0.04) for ratio in ratios)
    assert any(line.startswith("supernet: 1500 -> about ") for line in plan.given_up)
    assert any(line.startswith("evaluations: 48 -> ") for line in plan.given_up)
    assert any(line.startswith("finalists timed whole: 16 -> ") for line in plan.given_up)


def test_what_is_left_over_goes_into_the_trainings() -> None:
    plan = planned(50_000)
    assert all(plan.values[key] == plan.base[key] for key in REDUCED)
    assert plan.values["train.budget_s"] > budget._wanted_training_s(params(), KNOWN)


def test_too_small_a_budget_names_one_that_would_do() -> None:
    with pytest.raises(UsageError, match="the least is") as refused:
        planned(200)
    least = str(refused.value).partition("the least is ")[2].partition(":")[0]
    plan = planned(duration.parse(least, "--budget"))
    assert plan.values["search.evaluations"] >= 8
    assert plan.values["search.finalists"] >= 5


def test_the_least_steps_are_those_that_a_training_insists_on() -> None:
    from frontier.training import plan

    assert budget.LEAST_STEPS == plan.LEAST_STEPS


def test_evaluations_make_room_for_the_least_that_trainings_need() -> None:
    """Evaluations that cost much, trainings that cost nearly nothing but start dear."""
    dear = replace(RATES, evaluation_s=30.0, step_s={**RATES.step_s, "pretrain": 2.0})
    known = replace(KNOWN, rates=dear)
    own = budget._with(params(), {f"{name}.steps": 20 for name in costs.TRAININGS})
    least_s = budget._least_training_s(own, budget._shares(own), known)
    plan = planned(2400, own, known)
    assert plan.values["train.budget_s"] >= least_s
    assert plan.values["search.evaluations"] < 48


def test_no_supernet_is_trained_for_a_given_architecture() -> None:
    plan = planned(3600, params(architecture="yolo_nas_s"))
    assert plan.values["supernet.share"] == 0
    assert sum(plan.values[key] for key in budget.SHARES) == pytest.approx(1)
    assert not any(line.startswith("supernet") for line in plan.given_up)
    assert sum(plan.seconds.values()) == pytest.approx(3600, abs=0.5)


def test_each_searched_target_has_a_student_of_its_own() -> None:
    given = params().model_dump(mode="json", by_alias=True)
    both = {n: {"like": n, "kind": n} for n in (TARGET, "openvino-cpu")}
    own = parse_params({**given, "targets": both, "searched": [*both]})
    stages = [s for s in STAGES if not s.endswith("tensorrt")]
    stages += [f"{s}@openvino-cpu" for s in ("search", "distill", "quantize", "export", "evaluate")]
    base = budget._values(own, budget.PLANNED)
    plan = budget.make(own, base, 7200, KNOWN, stages, "others")
    assert sum(plan.seconds.values()) == pytest.approx(7200, abs=0.5)
    single = planned(7200)
    assert plan.values["distill.share"] < single.values["distill.share"]


def test_an_up_to_date_stage_costs_nothing_and_trainings_get_its_time() -> None:
    own = params()
    base = budget._values(own, budget.PLANNED)
    fewer = budget.make(own, base, 3600, KNOWN, STAGES[3:], "others")
    assert "ingest" not in fewer.seconds
    assert fewer.values["train.budget_s"] > planned(3600).values["train.budget_s"]


def test_an_earlier_run_on_this_device_scales_the_formula() -> None:
    own = params()
    given = own.model_dump(mode="json", by_alias=True)
    stage = f"search@{TARGET}"
    formula = KNOWN.seconds(stage, own)
    known = replace(KNOWN, records={stage: Record(1.5 * formula, given, [*IMAGES])})
    assert known.seconds(stage, own) == pytest.approx(1.5 * formula)
    assert (known.source(stage), KNOWN.source(stage)) == ("an earlier run", "calibration")
    smaller = parse_params({**given, "search": {**given["search"], "evaluations": 8}})
    assert known.seconds(stage, smaller) == pytest.approx(1.5 * KNOWN.seconds(stage, smaller))


def test_of_an_earlier_training_only_what_was_not_trained_counts() -> None:
    own = params()
    given = own.model_dump(mode="json", by_alias=True)
    given["train"]["budget_s"] = 1000.0
    formula = KNOWN.seconds("teacher", own)
    took = 1000.0 * own.teacher.share + 2 * formula
    known = replace(KNOWN, records={"teacher": Record(took, given, [*IMAGES])})
    assert known.seconds("teacher", own) == pytest.approx(2 * formula)


def test_records_are_of_one_device(tmp_path: Path) -> None:
    costs.keep_records(tmp_path, {"pack": 5.0}, params(), IMAGES, "here")
    costs.keep_records(tmp_path, {"report": 7.0}, params(), IMAGES, "here")
    assert {s: r.seconds for s, r in costs.read_records(tmp_path, "here").items()} == {
        "pack": 5.0,
        "report": 7.0,
    }
    assert costs.read_records(tmp_path, "elsewhere") == {}


def test_images_of_a_folder_are_split_as_they_were_packed(tmp_path: Path) -> None:
    own = params()
    assert costs.count_images(tmp_path, own) == IMAGES
    given = own.model_dump(mode="json", by_alias=True)
    real = parse_params({**given, "ingest": {**given["ingest"], "source": "../photos"}})
    write_json(tmp_path / "data" / "source.json", {"images": [["a.jpg", 1, 1]] * 200})
    assert costs.count_images(tmp_path, real)[:4] == (140, 30, 30, 0)
    splits = {"train": 80, "holdout": 10, "val": 10, "test": 100}
    write_json(tmp_path / "data" / "pack" / "main" / "meta.json", {"splits": splits})
    assert costs.count_images(tmp_path, real)[:4] == (90, 10, 100, 0)


def test_the_same_wish_again_finds_its_plan_and_another_starts_from_the_preset(
    tmp_path: Path,
) -> None:
    own, plan = params(), planned(3600)
    budget.write(tmp_path, plan)
    now = budget._with(own, plan.values)  # as the run left params.yaml
    assert budget.recorded(tmp_path, now, 3600, "others") == plan
    assert budget.recorded(tmp_path, own, 3600, "others") == plan
    assert budget.recorded(tmp_path, now, 7200, "others") is None
    assert budget.recorded(tmp_path, now, 3600, "other data") is None
    assert budget.base_values(tmp_path, now) == plan.base
    changed = budget._with(now, {"search.evaluations": 100})  # by hand: no longer the plan's
    assert budget.base_values(tmp_path, changed)["search.evaluations"] == 100


def test_a_plan_names_what_it_depends_on_beside_what_it_sets() -> None:
    own = params()
    same = budget._with(own, planned(3600).values)
    assert budget.others_digest(own, [1]) == budget.others_digest(same, [1])
    assert budget.others_digest(own, [1]) != budget.others_digest(own, [2])
    other = budget._with(own, {"train.learning_rate": 0.02})
    assert budget.others_digest(own, [1]) != budget.others_digest(other, [1])


def test_taken_adds_up_to_the_whole_run() -> None:
    plan = planned(3600)
    ran = {stage: plan.seconds[stage] + 1.0 for stage in STAGES}
    result = budget.taken(plan, ran, sum(ran.values()) + 30.0 + 12.0, 12.0)
    rows = result["stages"]
    assert sum(row["taken_s"] for row in rows.values()) == pytest.approx(result["taken_s"], abs=1)
    assert rows[RUN]["taken_s"] == 30.0
    assert result["off_by"] == pytest.approx(result["taken_s"] / result["planned_s"] - 1, abs=1e-4)


def test_a_run_that_goes_on_is_held_against_what_was_left() -> None:
    plan = planned(3600)
    result = budget.taken(plan, {"report": 8.0}, 30.0, 0.0)
    assert {*result["stages"]} == {"report", RUN}
    expected = plan.seconds["report"] + plan.seconds[RUN]
    assert result["planned_s"] == pytest.approx(expected, abs=0.2)
