"""Complete values of every training step, for tests that need the result of a step but not the step."""

from __future__ import annotations

from typing import Any

from ml_pipelines.contracts import Decision
from ml_pipelines.data.split_record import SplitRecord

__all__ = ["split_record", "step_values"]

_DECISION = {"outcome": "promoted", "model": "churn", "candidate": "linear", "candidate_index": 0, "reason": "so"}
_VALUES: dict[str, dict[str, Any]] = {
    "ingest": {"pin": {"source": "file", "location": "data.csv"}, "columns": 4, "empty_rows": 0},
    "compare_with_champion": {
        "verdict": "go_on",
        "fingerprint": {"data": "a" * 64},
        "changed": None,
        "champion_version": None,
        "reason": "there is no champion yet",
    },
    "check_quality": {"verdict": "passed", "rows": 100, "quarantined": 4, "failed": [], "warnings": []},
    "preprocess": {"rows_in": 100, "kept": 96, "quarantined": 4, "quarantined_by_reason": {"amount is infinite": 4}},
    "split": {"rows": {"train": 60, "validation": 16, "test": 20}},
    "train": {
        "candidate": "linear",
        "rows": 60,
        "features": 2,
        "key": "0" * 64,
        "tracking_run_id": "r1",
        "model_uri": "models:/m-1",
        "tracking_url": None,
    },
    "evaluate": {
        "winner": "linear",
        "metric": "roc_auc",
        "value": 0.75,
        "test": {"roc_auc": 0.75},
        "champion": None,
    },
    "register": {"version": "2", "model_uri": "models:/m-1", "url": None},
    "deploy": {"version": "2", "previous_version": "1"},
    "record_decision": {"outcome": "promoted", "reason": "so", "candidate": "linear"},
}


def split_record(**changes: Any) -> dict[str, Any]:
    """Return the record of a split by key, with no row among the training rows unless `limits` change."""
    record = SplitRecord(
        method="hash",
        test=0.2,
        validation=0.15,
        column=None,
        key="id",
        key_type="integer",
        seed=1,
        target="label",
        columns={"id": "number", "x": "number", "colour": "text", "label": "text"},
        limits={"": (2**64 - 1, 2**64 - 1)},
    )
    return {**record.model_dump(mode="json"), **changes}


def step_values(step: str, **changes: Any) -> dict[str, Any]:
    """Return the values of a step with some of them changed; of `decide`, the changes are those of the decision."""
    if step == "decide":
        return {"decision": Decision(**(_DECISION | changes)).model_dump(mode="json")}
    return _VALUES[step] | changes
