from __future__ import annotations

import pytest
from croniter import croniter
from hypothesis import example, given
from hypothesis import strategies as st

from ml_pipelines.spec.cron import MAX_LENGTH, find_cron_error


@pytest.mark.parametrize(
    "expression",
    ["0 2 * * 0", "*/15 8-18 * * mon-fri", "0 0 1,15 * *", "0 0 1 JAN *", "5/10 * * * *", "0 0 L * *", "0 0 * * 5#3",
     "0 0 * * L5", "0 22-2 * * *", "0 0 * * 7", "0  2\t* * 0", "0 0 * jan-mar/2 *", "@daily", "@quarterly",
     "0 0 * * mon#1,5#3", "0 0 1,L * *", "0 0 ? * 1", "0 0 1 * ?",
     "0 0 29 2 *", "0 0 31 * *", "0 0 30,1 feb *", "0 0 31 2,3 *", "0 0 L 2 *", "0 0 31 jun mon",
     f"{','.join(map(str, range(0, 60, 5)))} * * * *"],
)  # fmt: skip
def test_valid_expression_has_no_error(expression: str) -> None:
    assert find_cron_error(expression) is None


@pytest.mark.parametrize(
    ("expression", "error"),
    [
        ("60 * * * *", 'the minute "60" is not within 0-59'),
        ("0 25 * * *", 'the hour "25" is not within 0-23'),
        ("0 0 0 * *", 'the day of month "0" is not within 1-31'),
        ("0 0 1 13 *", 'the month "13" is not within 1-12 or jan-dec'),
        ("0 0 * * sunday", 'the day of week "sunday" is not within 0-7 or sun-sat'),
        ("*/0 * * * *", 'the minute "*/0" is not within 0-59'),
        ("1,,2 * * * *", 'the minute "1,,2" is not within 0-59'),
        ("0 1- * * *", 'the hour "1-" is not within 0-23'),
        ("0 ? * * *", 'the hour "?" is not within 0-23'),
        ("0 0 * * 1,?", 'the day of week "1,?" is not within 0-7 or sun-sat'),
        ("0 0 * * 1,5#3", 'the day of week "1,5#3" is not within 0-7 or sun-sat'),
        ("0 -1 * * *", 'the hour "-1" is not within 0-23'),
        (f"{'9' * 5000} * * * *", f"it has 5008 characters, more than {MAX_LENGTH}"),
        (f"0 0 1 {','.join(['1-2'] * 15)} *", "it has 67 characters, more than 64"),
        ("0\v2 * * *", "it has a control character"),
        ("0 0 30 2 *", "no such date exists"),
        ("0 0 31 JUN,sep ?", "no such date exists"),
        ("", "it has 0 fields"),
        ("daily", "it has 1 field"),
        ("* * * *", "it has 4 fields"),
        ("0 * * * * *", "it has 6 fields"),
    ],
)
def test_invalid_expression_names_the_field(expression: str, error: str) -> None:
    assert find_cron_error(expression) == error


ITEMS = st.from_regex(
    r"(\*|\?|[0-9]{1,2}|[a-z]{3}|[0-9]{1,2}-[0-9]{1,2}|l|L[0-7]|[0-7]#[0-9]|[1-9]W|[rh])(/[0-9]{1,2})?", fullmatch=True
)
FIELDS = st.lists(ITEMS | st.sampled_from(["*", "0", "1", "mon-fri", "feb"]), min_size=1, max_size=2).map(",".join)


@example("* ? * * *")
@example("* * * * *,?")
@example("* * * * 1,5#3")
@given(st.lists(FIELDS, min_size=5, max_size=5).map(" ".join))
def test_valid_expression_is_valid_for_croniter(expression: str) -> None:
    if find_cron_error(expression) is None:
        assert croniter.is_valid(expression), expression


@given(st.text() | st.text(alphabet="0123456789*/,-?#LlWrh @ ", max_size=250))
def test_any_text_gets_a_result(text: str) -> None:
    error = find_cron_error(text)
    assert error is None or error
