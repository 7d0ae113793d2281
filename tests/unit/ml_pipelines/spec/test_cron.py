from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ml_pipelines.spec.cron import cron_fault

croniter = pytest.importorskip("croniter").croniter


@pytest.mark.parametrize(
    "expression",
    ["0 2 * * 0", "*/15 8-18 * * mon-fri", "0 0 1,15 * *", "0 0 1 JAN *", "5/10 * * * *", "0 0 L * *", "0 0 * * 5#3",
     "0 0 * * L5", "0 22-2 * * *", "0 0 * * 7", "0  2\t* * 0", "0 0 * jan-mar/2 *", "@daily", "@quarterly",
     "0 0 * * mon#1,5#3", "0 0 1,L * *", "0 0 ? * 1", "0 0 1 * ?",
     "0 0 29 2 *", "0 0 31 * *", "0 0 30,1 feb *", "0 0 31 2,3 *", "0 0 L 2 *", "0 0 31 jun mon"],
)  # fmt: skip
def test_what_people_write_is_right(expression: str) -> None:
    assert cron_fault(expression) is None
    if not expression.startswith("@"):
        assert croniter(expression, 0.0).get_next() > 0


@pytest.mark.parametrize(
    ("expression", "fault"),
    [
        ("60 * * * *", 'the minute "60" is not within 0-59'),
        ("0 25 * * *", 'the hour "25" is not within 0-23'),
        ("0 0 0 * *", 'the day of month "0" is not within 1-31'),
        ("0 0 1 13 *", 'the month "13" is not within 1-12'),
        ("0 0 * * sunday", 'the day of week "sunday" is not within 0-7'),
        ("*/0 * * * *", 'the minute "*/0" is not within 0-59'),
        ("1,,2 * * * *", 'the minute "" is not within 0-59'),
        ("0 1- * * *", 'the hour "1-" is not within 0-23'),
        ("0 ? * * *", 'the hour "?" is not within 0-23'),
        ("0 0 * * 1,?", 'the day of week "?" is not within 0-7'),
        ("0 0 * * 1,5#3", 'the day of week "1,5#3" mixes days of every week with days of one'),
        ("0 -1 * * *", 'the hour "-1" is not within 0-23'),
        (f"{'9' * 5000} * * * *", f'the minute "{"9" * 5000}" is not within 0-59'),
        ("0 0 30 2 *", 'the day of month "30" does not occur in the month "2"'),
        ("0 0 31 JUN,nov ?", 'the day of month "31" does not occur in the month "jun,nov"'),
        ("", "it has 0 fields"),
        ("daily", "it has 1 field"),
        ("* * * *", "it has 4 fields"),
        ("0 * * * * *", "it has 6 fields"),
    ],
)
def test_a_fault_names_the_field(expression: str, fault: str) -> None:
    assert cron_fault(expression) == fault


ITEMS = st.from_regex(
    r"(\*|\?|[0-9]{1,2}|[a-z]{3}|[0-9]{1,2}-[0-9]{1,2}|l|L[0-7]|[0-7]#[0-9])(/[0-9]{1,2})?", fullmatch=True
)
FIELDS = st.lists(ITEMS | st.sampled_from(["*", "0", "1", "mon-fri", "feb"]), min_size=1, max_size=2).map(",".join)


@example("* ? * * *")
@example("* * * * *,?")
@example("* * * * 1,5#3")
@given(st.lists(FIELDS, min_size=5, max_size=5).map(" ".join))
def test_what_is_right_here_is_right_for_the_scheduler(expression: str) -> None:
    if cron_fault(expression) is None:
        assert croniter.is_valid(expression), expression


@given(st.text())
def test_any_text_is_judged(text: str) -> None:
    assert cron_fault(text) is None or isinstance(cron_fault(text), str)
