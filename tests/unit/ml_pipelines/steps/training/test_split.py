from __future__ import annotations

import datetime as dt
import math
import random
from collections import Counter
from importlib.resources import files

import polars as pl
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ml_pipelines.data.source_table import open_source
from ml_pipelines.errors import DataError
from ml_pipelines.pipeline.step_parameters import (
    CheckQualityParameters,
    IngestParameters,
    PreprocessParameters,
    SplitParameters,
)
from ml_pipelines.spec.checks import Checks, Column
from ml_pipelines.spec.sources import FileSource
from ml_pipelines.spec.training import Split
from ml_pipelines.steps.training.check_quality import check_quality
from ml_pipelines.steps.training.ingest import ingest
from ml_pipelines.steps.training.preprocess import preprocess
from ml_pipelines.steps.training.split import PARTS, split

SAMPLES = files("ml_pipelines") / "sample_data"


def run(frame, *, key="id", task="classification", seed=7, **rule):
    parameters = SplitParameters(task=task, key=key, target="y", split=Split(**rule))
    output = split(table=frame.lazy(), parameters=parameters, seed=seed)
    parts = {name: output.outputs[name].collect() for name in PARTS}
    assert tuple(parts) == PARTS
    assert output.values == {"rows": {name: part.height for name, part in parts.items()}}
    assert all(part.schema == frame.schema for part in parts.values())
    return parts


def assignment(parts, column="id"):
    return {value: name for name, part in parts.items() for value in part[column]}


def table(rows=200):
    return pl.DataFrame({"id": [f"Kü{row}" for row in range(rows)], "y": [row % 2 for row in range(rows)]})


RULES = {
    "hash": {"method": "hash"},
    "stratified": {"method": "stratified"},
    "time": {"method": "time", "column": "at"},
}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("key", ["id", None])
def test_split_puts_every_row_into_exactly_one_part_in_its_order(rule, key):
    frame = table().with_columns(at=pl.Series(range(200)).shuffle(1))
    parts = run(frame, key=key, **RULES[rule])
    assert sorted(pl.concat(parts.values()).rows()) == sorted(frame.rows())
    for part in parts.values():
        assert part.equals(frame.filter(pl.col("id").is_in(part["id"].implode())))


@settings(max_examples=30, deadline=None)
@given(
    keys=st.lists(st.text(max_size=6), min_size=60, max_size=90, unique=True),
    order=st.randoms(use_true_random=False),
    key=st.sampled_from(["id", None]),
)
def test_split_keeps_a_row_in_its_part_when_the_table_grows_or_is_reordered(keys, order, key):
    shares = {"test": 0.3, "validation": 0.3, "task": "regression", "key": key}
    grown = [*keys, *(f"new customer {number}" for number in range(60))]
    order.shuffle(grown)
    before = run(pl.DataFrame({"id": keys, "y": [1] * len(keys)}), **shares)
    after = run(pl.DataFrame({"y": [1] * len(grown), "id": grown}), **shares)
    assert {name: assignment(after)[name] for name in keys} == assignment(before)


def test_split_does_not_depend_on_chunks_and_order():
    frame = table(1000)
    chunked = pl.concat([frame[:1], frame[1:500], frame[500:]], rechunk=False)
    assert assignment(run(frame)) == assignment(run(chunked)) == assignment(run(frame.reverse()))


@pytest.mark.parametrize("dtype", [pl.Int64, pl.Float64])
def test_split_of_number_keys_is_that_of_their_text(dtype):
    frame = table().with_columns(id=pl.int_range(200))
    as_text = frame.with_columns(pl.col("id").cast(pl.String))
    frame = frame.with_columns(pl.col("id").cast(dtype))
    assert {f"{key:g}": part for key, part in assignment(run(frame)).items()} == assignment(run(as_text))


@pytest.mark.parametrize("rule", ["hash", "stratified"])
def test_split_keeps_rows_of_one_key_together(rule):
    frame = table(300).with_columns(id=pl.int_range(300) // 4, y=pl.int_range(300) // 4 % 2)
    sets = [set(part["id"]) for part in run(frame, **RULES[rule]).values()]
    assert sum(len(keys) for keys in sets) == len(set.union(*sets)) == 75


def test_split_keeps_equal_rows_without_a_key_together():
    frame = pl.DataFrame({"id": [row % 100 for row in range(400)], "y": [row % 2 for row in range(400)]})
    sets = [set(part["id"]) for part in run(frame, key=None).values()]
    assert sum(len(keys) for keys in sets) == 100


def test_split_depends_on_the_seed():
    assert assignment(run(table(), seed=1)) == assignment(run(table(), seed=1))
    assert assignment(run(table(), seed=1)) != assignment(run(table(), seed=2))


@settings(max_examples=30, deadline=None)
@given(
    labels=st.lists(st.sampled_from(["a", "b", "größe"]), min_size=30, max_size=120),
    test=st.floats(0.1, 0.6),
    validation=st.floats(0.1, 0.35),
    key=st.sampled_from(["id", None]),
)
def test_stratified_split_has_the_declared_share_of_each_class(labels, test, validation, key):
    frame = pl.DataFrame({"id": range(len(labels)), "y": labels})
    counts = Counter(labels)
    assume(any(min(test, validation) * n >= 1 for n in counts.values()))
    parts = run(frame, key=key, method="stratified", test=test, validation=validation)
    for label, n in counts.items():
        got = {name: part["y"].to_list().count(label) for name, part in parts.items()}
        assert abs(got["test"] - test * n) < 1
        assert abs(got["validation"] - validation * n) < 1
        assert got["train"] >= 1
        assert sum(got.values()) == n


@pytest.mark.parametrize("test", [0.2, 0.209])
def test_stratified_split_rounds_shares_down_to_rows(test):
    parts = run(table(200), method="stratified", test=test, validation=0.15)
    assert {name: Counter(part["y"]) for name, part in parts.items()} == {
        "train": {0: 65, 1: 65},
        "validation": {0: 15, 1: 15},
        "test": {0: 20, 1: 20},
    }


def test_stratified_split_has_a_rare_class_in_train():
    frame = table().with_columns(y=pl.when(pl.int_range(200) == 3).then(2).otherwise("y"))
    assert 2 in run(frame, method="stratified", test=0.6, validation=0.39)["train"]["y"]


@settings(max_examples=30, deadline=None)
@given(
    days=st.lists(st.integers(-5, 5), min_size=12, max_size=80),
    kind=st.sampled_from(["date", "datetime", "integer"]),
)
def test_split_by_time_keeps_rows_of_the_same_time_together(days, kind):
    assume(len(set(days)) >= 3)
    at = pl.Series("at", days)
    if kind != "integer":
        at = pl.Series("at", [dt.date(2026, 1, 10) + dt.timedelta(days=day) for day in days])
        at = at.cast(pl.Datetime("us", "UTC")) if kind == "datetime" else at
    frame = pl.DataFrame({"at": at, "y": [1] * len(days)})
    try:
        parts = run(frame, key=None, task="regression", method="time", column="at", test=0.2, validation=0.2)
    except DataError as error:
        assume(error.what != "train has no rows")
        raise
    assert parts["train"]["at"].max() < parts["validation"]["at"].min()
    assert parts["validation"]["at"].max() < parts["test"]["at"].min()
    assert parts["test"].height >= math.floor(0.2 * len(days))
    # Only the ties of the earliest moment go beyond the share.
    earliest = parts["test"].filter(pl.col("at") == parts["test"]["at"].min()).height
    assert parts["test"].height - earliest < max(0.2 * len(days), 1)


def test_split_by_time_has_exact_shares_of_distinct_times():
    at = pl.datetime_range(dt.datetime(2020, 1, 1), dt.datetime(2026, 1, 1), "1h", time_zone="UTC", eager=True)
    frame = pl.DataFrame({"at": at.shuffle(3)[:10_000]}).with_columns(y=pl.int_range(10_000) % 2)
    parts = run(frame, key=None, method="time", column="at", test=0.2, validation=0.15)
    assert {name: part.height for name, part in parts.items()} == {"train": 6500, "validation": 1500, "test": 2000}


def test_split_by_time_is_exact_for_skewed_times():
    values = [*range(1000), 2**60]
    frame = pl.DataFrame({"at": values, "y": [row % 2 for row in range(1001)]})
    parts = run(frame, key=None, method="time", column="at", test=0.1, validation=0.1)
    assert parts["test"]["at"].to_list() == [*range(901, 1000), 2**60]


def of_groups(seed, first=0):
    """Rows of 40 to 80 groups of one to seven rows, with times, in a random order."""
    rng = random.Random(seed)
    names = rng.sample(range(-(10**9), 10**9), rng.randint(40, 80))
    starts = {name + first: rng.randrange(10**6) for name in names}
    rows = [(name, start + day) for name, start in starts.items() for day in range(rng.randint(1, 7))]
    rng.shuffle(rows)
    return pl.DataFrame(
        {
            "group": [name for name, _ in rows],
            "at": [at for _, at in rows],
            "id": range(first, first + len(rows)),
            "y": [1] * len(rows),
        }
    )


SEEDS = st.integers(0, 2**32 - 1)
GROUP_RULES = st.sampled_from([{"method": "hash"}, {"method": "time", "column": "at"}])
SHARES = {"test": 0.3, "validation": 0.3, "task": "regression", "group": "group"}


@settings(max_examples=20, deadline=None)
@given(seed=SEEDS, rule=GROUP_RULES, key=st.sampled_from(["id", None]))
def test_no_group_is_in_two_parts_whatever_its_type_and_spelling(seed, rule, key):
    frame = of_groups(seed)
    first = {group: index for index, group in enumerate(frame["group"])}
    spelled = pl.Series(
        [f"{group}.0" if first[group] != index else str(group) for index, group in enumerate(frame["group"])]
    )
    parts = [
        run(frame.with_columns(group=column), key=key, **SHARES, **rule)
        for column in (pl.col("group"), pl.col("group").cast(pl.Float64), pl.col("group").cast(pl.String), spelled)
    ]
    for version in parts:
        sets = [set(part["id"]) for part in version.values()]
        owners = [set(frame.filter(pl.col("id").is_in(ids))["group"]) for ids in sets]
        assert sum(map(len, owners)) == len(set.union(*owners)) == frame["group"].n_unique()
        assert assignment(version) == assignment(parts[0])


@settings(max_examples=20, deadline=None)
@given(seed=SEEDS)
def test_a_group_stays_in_its_part_when_rows_and_groups_are_added(seed):
    before, later = of_groups(seed), of_groups(seed + 1, first=10**10)
    grown = pl.concat([later, before, before.with_columns(id=pl.col("id") + 10**6)])
    old, new = (assignment(run(frame, **SHARES), "group") for frame in (before, grown))
    assert {group: new[group] for group in old} == old


@settings(max_examples=20, deadline=None)
@given(seed=SEEDS)
def test_with_groups_and_time_all_training_rows_are_before_the_latest_row_of_each_other_group(seed):
    parts = run(of_groups(seed), **SHARES, method="time", column="at")
    latest = {name: part.group_by("group").agg(pl.col("at").max())["at"] for name, part in parts.items()}
    assert latest["train"].max() < latest["validation"].min()
    assert latest["validation"].max() < latest["test"].min()


@pytest.mark.parametrize("group", [None, "", " "])
def test_a_row_without_a_group_is_an_error(group):
    frame = table().with_columns(group=pl.when(pl.col("id") == "Kü3").then(pl.lit(group)).otherwise(pl.lit("a")))
    with pytest.raises(DataError) as caught:
        run(frame, group="group")
    assert caught.value.where == "split.group"
    assert "1 rows" in caught.value.what


@pytest.mark.parametrize(
    ("frame", "what", "fix"),
    [
        (table(), "the split column 'at' is not in the data", "correct the name"),
        (table().with_columns(at=pl.lit("May")), "the column 'at' can't order the rows in time", "data.columns.at"),
        (
            table().with_columns(at=pl.when(pl.int_range(200) > 1).then(pl.int_range(200))),
            "2 rows have no at, so a split by time can't place them",
            "declare at with max_missing: 0 and on_fail: quarantine",
        ),
        (table().with_columns(at=pl.lit(1)), "train has no rows", "at may have too few distinct values"),
        (table(0).with_columns(at=pl.int_range(0)), "there are no rows to split", "deliver the rows"),
    ],
)
def test_split_by_time_reports_an_unusable_column(frame, what, fix):
    with pytest.raises(DataError) as caught:
        run(frame, method="time", column="at")
    assert caught.value.what == what
    assert fix in caught.value.fix


@pytest.mark.parametrize("name", ["^x$", "*", 'a "b" c'])
@pytest.mark.parametrize("rule", RULES)
def test_split_takes_column_names_as_they_are(name, rule):
    frame = table().with_columns(pl.lit("same").alias("x"), pl.int_range(200).alias(name))
    declared = RULES[rule] | ({"column": name} if rule == "time" else {})
    plain = RULES[rule] | ({"column": "key"} if rule == "time" else {})
    renamed = run(frame.rename({name: "key"}), key="key", **plain)
    assert assignment(run(frame, key=name, **declared), name) == assignment(renamed, "key")


@pytest.mark.parametrize("rule", ["hash", "stratified"])
def test_split_refuses_an_empty_part(rule):
    with pytest.raises(DataError, match="has no rows") as caught:
        run(table(1), **RULES[rule])
    assert "change the shares in split" in caught.value.fix


def test_split_refuses_a_class_that_train_lacks():
    parts = assignment(run(table()))
    held_out = next(key for key, part in parts.items() if part == "test")
    frame = table().with_columns(y=pl.when(pl.col("id") == held_out).then(2).otherwise("y"))
    with pytest.raises(DataError, match="class '2'") as caught:
        run(frame)
    assert "set split.method to stratified" in caught.value.fix
    run(frame, task="regression")


@pytest.mark.parametrize(
    ("name", "key", "target", "columns"),
    [
        ("customers-2026-10.csv", "customer_id", "label", {"amount": Column(type="float", above=0)}),
        ("customers-2026-11.csv", "customer_id", "label", {"amount": Column(type="float", above=0)}),
        ("credit.csv", None, "Status", {}),
    ],
)
@pytest.mark.parametrize("method", ["hash", "stratified"])
def test_the_sample_files_pass_the_four_table_steps(name, key, target, columns, method):
    types = {column: declared.type for column, declared in columns.items()}
    declared = IngestParameters(source=FileSource(path="x"), types=types, key=key, target=target, ignore=(), used_by={})
    path = str(SAMPLES / name)
    rows = ingest(source=open_source(path, name, path), parameters=declared, seed=0).outputs["table"]
    rules = CheckQualityParameters(task="classification", key=key, target=target, columns=columns, checks=Checks())
    quality = check_quality(table=rows, parameters=rules, seed=0)
    assert quality.values["verdict"] == "passed"
    prepared = preprocess(
        table=rows, flagged=quality.outputs["flagged"], parameters=PreprocessParameters(target=target), seed=0
    )
    rule = SplitParameters(task="classification", key=key, target=target, split=Split(method=method))
    rows_of = split(table=prepared.outputs["clean"], parameters=rule, seed=42).values["rows"]
    total = rows.select(pl.len()).collect().item()
    assert prepared.values["kept"] == sum(rows_of.values()) == total
    assert rows_of["test"] / total == pytest.approx(0.2, abs=0.02)
    assert rows_of["validation"] / total == pytest.approx(0.15, abs=0.02)


def test_split_keeps_the_customers_of_the_last_month_in_their_parts():
    old, new = (pl.read_csv(SAMPLES / f"customers-2026-{month}.csv") for month in (10, 11))
    before, after = (assignment(run(frame.rename({"label": "y", "customer_id": "id"}))) for frame in (old, new))
    assert {key: after[key] for key in before} == before
