"""Pin the rows of a batch and the version of the model, then read the columns that scoring needs.

A feature is read as the type that it has in training. A cell that is not of that type becomes null, and the column
`_bad_cells` keeps its text; such a row goes to quarantine and has no score.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping

import polars as pl

from ml_pipelines._utils.canonical_json import load_json
from ml_pipelines.contracts import DataPin, Identity, JsonValue
from ml_pipelines.data.columns import check_reserved_names, column, missing_column_error
from ml_pipelines.data.csv_checks import source_error
from ml_pipelines.data.type_inference import DTYPES, parse_columns, scan_source
from ml_pipelines.errors import DataError, NoRows
from ml_pipelines.pipeline.batch_parameters import IngestBatchParameters
from ml_pipelines.pipeline.step import References, Resolution, StepOutput
from ml_pipelines.ports import DataSource, Services
from ml_pipelines.promotion.champion import scoring_version
from ml_pipelines.promotion.deployment import ensure_model_artifact, training_record_ref
from ml_pipelines.spec.training import ColumnType

__all__ = ["ingest_batch", "resolve"]


def resolve(
    parameters: IngestBatchParameters, inputs: References, services: Services, identity: Identity
) -> Resolution:
    """Pin the data and the version of the model, and copy the model's files into this store.

    Returns:
        Values `pin`, and `model`: `name`, `version`, and the references `artifact` and `training`.

    Raises:
        RegistryError: the version does not exist, or no pipeline registered it.
        ArtifactCorrupt: the registry returns other bytes than were registered.
        ServiceUnavailable: the registry does not answer.
    """
    version = scoring_version(services.registry, parameters.model)
    model, recorded = ensure_model_artifact(services, version), training_record_ref(version)
    text = services.read(recorded)
    training = services.copy_artifact(recorded, text)
    # A batch may have fractions in a column that has only whole numbers in training; the model takes both as floats.
    types = {
        feature["name"]: "float" if feature["dtype"] == "integer" else feature["dtype"]
        for feature in load_json(text)["features"]
    }
    source = services.source(parameters.source)
    pin = source.pin()
    pinned: dict[str, JsonValue] = {
        "name": version.model,
        "version": version.version,
        "artifact": model.model_dump(mode="json"),
        "training": training.model_dump(mode="json"),
    }
    arguments = {"features": types, "model": f"{version.model} version {version.version}", "location": pin.location}
    return Resolution(
        key_facts={"data": pin.digest, "features": {**types}},
        values={"pin": pin.model_dump(mode="json"), "model": pinned},
        cacheable=pin.digest is not None,
        prepare=lambda directory: {"raw_path": _fetch(source, pin, directory), **arguments},
    )


def ingest_batch(
    *,
    raw_path: str | None,
    features: Mapping[str, ColumnType],
    model: str,
    location: str,
    parameters: IngestBatchParameters,
    seed: int,
) -> StepOutput:
    """Read key, features and columns to keep as typed columns, in the order of the source.

    Args:
        raw_path: local file, `.csv` or `.parquet`; None if there are no rows.
        features: types of the columns that the model needs.
        model: name and version of the model, for error messages.
        location: of the data, for error messages.
        parameters: the other columns.
        seed: not used.

    Returns:
        `table`: the rows, with a column `_bad_cells` if some cells are not of their type; it may be empty.
        Values: `empty_rows`, the number of records without any value in these columns.

    Raises:
        DataError: a column is missing, or its name is reserved.
        SourceUnreadable: the file is not a table.
    """
    types = {**parameters.types, **features}
    names = list(dict.fromkeys([parameters.key, *features, *parameters.keep]))
    if raw_path is None:
        return _empty_table(names, types)
    try:
        frame = scan_source(raw_path)
        check_reserved_names(names)
        columns = frame.collect_schema().names()
        _check_features(columns, features, model, location)
        _check_roles(columns, parameters, location)
        declared = {name: kind for name, kind in types.items() if name in names}
        table, empty_rows = parse_columns(frame.select(column(name) for name in names), declared, raw_path)
    except NoRows:
        return _empty_table(names, types)
    except pl.exceptions.PolarsError as exc:
        raise source_error(exc, raw_path) from exc
    return StepOutput(outputs={"table": table}, values={"empty_rows": empty_rows})


def _fetch(source: DataSource, pin: DataPin, directory: str) -> str | None:
    try:
        return source.fetch(pin, directory)
    except NoRows:
        return None


def _empty_table(names: list[str], types: Mapping[str, ColumnType]) -> StepOutput:
    schema = {name: DTYPES[types.get(name, "string")] for name in names}
    return StepOutput(outputs={"table": pl.LazyFrame(schema=schema)}, values={"empty_rows": 0})


def _check_features(columns: list[str], features: Mapping[str, ColumnType], model: str, location: str) -> None:
    missing = [name for name in features if name not in columns]
    if not missing:
        return
    similar = {name: matches[0] for name in missing if (matches := difflib.get_close_matches(name, columns, 1))}
    suggestions = ", ".join(f"{match!r} for {name!r}" for name, match in similar.items())
    raise DataError(
        f"the batch lacks columns that {model} was trained with: {', '.join(missing)}",
        where=location,
        expected=f"the {len(features)} columns of its training, under the same names",
        got=", ".join(columns),
        fix=f"did you mean {suggestions}?" if suggestions else "add the columns, or choose a model without them",
    )


def _check_roles(columns: list[str], parameters: IngestBatchParameters, location: str) -> None:
    for role, names in {"key": (parameters.key,), "column to keep": parameters.keep}.items():
        for name in names:
            if name not in columns:
                raise missing_column_error(name, role, columns, where=location)
