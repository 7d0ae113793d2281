"""Pin a batch: which rows, and which version of the model. Then read the columns that scoring needs.

A feature is read as the type that it had in training, whatever the batch alone would look like. A cell that is not of
that type becomes null and the column `_bad_cells` says what it was; such a row is set aside, not scored.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

import polars as pl

from ml_pipelines._utils.canonical_json import load_json
from ml_pipelines.contracts import DataPin, Identity, JsonValue
from ml_pipelines.data.csv_checks import source_error
from ml_pipelines.data.streaming import BAD_CELLS, REASON, ROW, missing_column_error
from ml_pipelines.data.type_inference import DTYPES, parse_columns, scan_source
from ml_pipelines.errors import DataError, NoRows
from ml_pipelines.pipeline.batch_parameters import IngestBatchParameters
from ml_pipelines.pipeline.step import References, Resolution, StepOutput
from ml_pipelines.ports import DataSource, Services
from ml_pipelines.promotion.champion import scoring_version
from ml_pipelines.promotion.deployment import ensure_model_artifact, training_record_ref
from ml_pipelines.spec.training import ColumnType

__all__ = ["ingest_batch", "resolve"]

_RESERVED = (BAD_CELLS, ROW, REASON)


def resolve(
    parameters: IngestBatchParameters, inputs: References, services: Services, identity: Identity
) -> Resolution:
    """Pin the data and the model's version, and bring its files into this store.

    Returns:
        Values `pin`, and `model`: `name`, `version`, and the references `artifact` and `training`.

    Raises:
        RegistryError: there is no such version, or no pipeline has registered it.
        ArtifactCorrupt: the registry serves other bytes than were registered.
        ServiceUnavailable: the registry does not answer.
    """
    version = scoring_version(services.registry, parameters.model)
    model, recorded = ensure_model_artifact(services, version), training_record_ref(version)
    text = services.read(recorded)
    training = services.copy_artifact(recorded, text)
    # A number that was whole in all training rows need not be in a batch; the model takes both as floats.
    kinds = {
        each["name"]: "float" if each["dtype"] == "integer" else each["dtype"] for each in load_json(text)["features"]
    }
    source = services.source(parameters.source)
    pin = source.pin()
    pinned: dict[str, JsonValue] = {
        "name": version.model,
        "version": version.version,
        "artifact": model.model_dump(mode="json"),
        "training": training.model_dump(mode="json"),
    }
    told = {"features": kinds, "who": f"{version.model} version {version.version}", "where": pin.location}
    return Resolution(
        key_facts={"data": pin.digest, "features": {**kinds}},
        values={"pin": pin.model_dump(mode="json"), "model": pinned},
        cacheable=pin.digest is not None,
        prepare=lambda directory: {"raw_path": _fetched(source, pin, directory), **told},
    )


def ingest_batch(
    *,
    raw_path: str | None,
    features: Mapping[str, ColumnType],
    who: str,
    where: str,
    parameters: IngestBatchParameters,
    seed: int,
) -> StepOutput:
    """Read key, features and columns to keep into typed columns, in the order of the source.

    Args:
        raw_path: local file, `.csv` or `.parquet`; None if there are no rows.
        features: types of the columns that the model has learned from.
        who: the model, for people.
        where: the data, for people.
        parameters: the other columns.
        seed: not used.

    Returns:
        `table`: the rows, with a column `_bad_cells` if some cell is not of its type; it may be empty.
        Values: `empty_rows`, the records without any value in these columns.

    Raises:
        DataError: a column is not there.
        SourceUnreadable: the file is not a table.
    """
    types = {**parameters.types, **features}
    wanted = list(dict.fromkeys([parameters.key, *features, *parameters.keep]))
    if raw_path is None:
        return _nothing(wanted, types, empty_rows=0)
    try:
        frame = scan_source(raw_path)
        _check_names(frame.collect_schema().names(), features, who, where, parameters)
        frame = frame.select(wanted)
        table, empty_rows = parse_columns(
            frame, {name: kind for name, kind in types.items() if name in wanted}, raw_path
        )
    except NoRows:
        return _nothing(wanted, types, empty_rows=0)
    except pl.exceptions.PolarsError as exc:
        raise source_error(exc, raw_path) from exc
    return StepOutput(outputs={"table": table}, values={"empty_rows": empty_rows})


def _fetched(source: DataSource, pin: DataPin, directory: str) -> str | None:
    try:
        return source.fetch(pin, directory)
    except NoRows:
        return None


def _nothing(wanted: list[str], types: Mapping[str, ColumnType], *, empty_rows: int) -> StepOutput:
    schema = {name: DTYPES[types.get(name, "string")] for name in wanted}
    return StepOutput(outputs={"table": pl.LazyFrame(schema=schema)}, values={"empty_rows": empty_rows})


def _check_names(
    there: list[str], features: Mapping[str, Any], who: str, where: str, parameters: IngestBatchParameters
) -> None:
    if missing := [name for name in features if name not in there]:
        near = {name: found[0] for name in missing if (found := difflib.get_close_matches(name, there, 1))}
        meant = ", ".join(f"{found!r} for {name!r}" for name, found in near.items())
        raise DataError(
            f"the batch lacks columns that {who} was trained with: {', '.join(missing)}",
            where=where,
            expected=f"the {len(features)} columns of its training, under the same names",
            got=", ".join(there),
            fix=f"did you mean {meant}?" if meant else "deliver the columns, or score with a model that does without",
        )
    for role, names in {"key": [parameters.key], "column to keep": parameters.keep}.items():
        for name in names:
            if name not in there:
                raise missing_column_error(name, role, there, where=where)
