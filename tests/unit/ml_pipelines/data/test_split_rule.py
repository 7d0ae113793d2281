from __future__ import annotations

import datetime as dt

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_pipelines.data.split_record import SplitRecord
from ml_pipelines.data.split_rule import UnknownRows, learned_rows
from ml_pipelines.pipeline.step_parameters import SplitParameters
from ml_pipelines.spec.training import Split
from ml_pipelines.steps.training.split import PARTS, split

RULES = (
    {"method": "hash"},
    {"method": "stratified"},
    {"method": "time", "column": "day"},
    {"method": "hash", "group": "team"},
)


def table(rows: int = 300, first: int = 0) -> pl.DataFrame:
    numbers = range(first, first + rows)
    return pl.DataFrame(
        {
            "id": [100_000 + number for number in numbers],
            "team": [number // 4 for number in numbers],
            "x": [number * 37 % 101 / 10 for number in numbers],
            "day": [dt.date(2026, 1, 1) + dt.timedelta(days=number) for number in numbers],
            "y": [("no", "yes")[number * 31 % 7 % 2] for number in numbers],
        }
    )


def parts_of(frame, key="id", seed=3, **rule):
    parameters = SplitParameters(task="classification", key=key, target="y", split=Split(**rule))
    outputs = split(table=frame.lazy(), parameters=parameters, seed=seed).outputs
    return {name: outputs[name] for name in PARTS}, SplitRecord.model_validate(outputs["rule"])


def learned(frame, record):
    return learned_rows(frame.lazy(), record).to_list()


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(RULES), st.sampled_from(["id", None]), st.integers(0, 2**32 - 1), st.sampled_from([0.1, 0.2, 0.4])
)
def test_the_record_of_a_split_recognises_exactly_its_training_rows(rule, key, seed, test) -> None:
    parts, record = parts_of(table(), key, seed, test=test, **rule)
    again = SplitRecord.model_validate_json(record.model_dump_json())
    assert {name: set(learned(part, again)) for name, part in parts.items()} == {
        "train": {True},
        "validation": {False},
        "test": {False},
    }


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(RULES), st.sampled_from(["id", None]), st.integers(0, 2**32 - 1), st.sampled_from([0.1, 0.2, 0.4])
)
def test_after_a_refit_the_record_recognises_the_validation_rows_too(rule, key, seed, test) -> None:
    parts, record = parts_of(table(), key, seed, test=test, **rule)
    refit = record.model_copy(update={"refit": True})
    assert {name: set(learned(part, refit)) for name, part in parts.items()} == {
        "train": {True},
        "validation": {True},
        "test": {False},
    }


def test_with_groups_and_time_the_record_marks_all_training_rows_of_any_later_part_of_the_table() -> None:
    frame = table().with_columns(team=pl.int_range(300) % 150)
    parts, record = parts_of(frame, method="time", column="day", group="team")
    for part in (parts["train"].collect(), parts["train"].collect()[:20]):
        assert set(learned(part, record)) == {True}


@pytest.mark.parametrize("rule", RULES)
def test_the_record_recognises_training_rows_in_a_later_and_changed_table(rule) -> None:
    parts, record = parts_of(table(), **rule)
    trained = set(parts["train"].collect()["id"])
    later = table(600).with_columns(pl.col("id").cast(pl.Float64), pl.col("day").cast(pl.Datetime("ms")), new=pl.lit(1))
    expected = [number in trained for number in later["id"]]
    assert [learnt for learnt, old in zip(learned(later, record), later["id"] < 100_300, strict=True) if old] == [
        learnt for learnt, old in zip(expected, later["id"] < 100_300, strict=True) if old
    ]


def test_the_content_of_a_row_counts_in_the_columns_of_the_training() -> None:
    parts, record = parts_of(table(), key=None, method="hash")
    wider = parts["train"].with_columns(new=pl.lit("later"))
    assert set(learned(wider.collect(), record)) == {True}


def test_a_label_that_the_rule_never_met_is_new() -> None:
    _, record = parts_of(table(), method="stratified")
    assert not any(learned(table().with_columns(y=pl.lit("maybe")), record))


@pytest.mark.parametrize(
    ("rule", "key", "change", "fact"),
    [
        (RULES[0], "id", lambda frame: frame.drop("id"), "id"),
        (RULES[1], "id", lambda frame: frame.drop("y"), "y"),
        (RULES[2], "id", lambda frame: frame.drop("day"), "day"),
        (RULES[2], "id", lambda frame: frame.with_columns(day=pl.lit(5)), "day"),
        (RULES[0], None, lambda frame: frame.drop("x"), "x"),
        (RULES[0], None, lambda frame: frame.with_columns(pl.col("x").cast(pl.String)), "x"),
        (RULES[0], "id", lambda frame: frame.with_columns(pl.format("00{}", "id").alias("id")), "leading zeros"),
        (RULES[3], "id", lambda frame: frame.drop("team"), "its group"),
        (RULES[3], "id", lambda frame: frame.with_columns(pl.format("00{}", "team").alias("team")), "leading zeros"),
    ],
)
def test_rows_that_the_rule_cannot_place_are_unknown(rule, key, change, fact) -> None:
    _, record = parts_of(table(), key, **rule)
    with pytest.raises(UnknownRows, match=fact):
        learned(change(table()), record)


def test_a_text_key_that_became_a_number_may_have_lost_zeros() -> None:
    texts = table().with_columns(pl.col("id").cast(pl.String))
    _, record = parts_of(texts, method="hash")
    with pytest.raises(UnknownRows, match="leading zeros"):
        learned(table(), record)
    _, numbers = parts_of(table(), method="hash")
    assert learned(texts, numbers) == learned(texts, record)
