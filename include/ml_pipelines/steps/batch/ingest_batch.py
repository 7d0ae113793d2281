"""Pin the rows of a batch and the version of the model, then read the columns that scoring needs.

A feature is read as the type that it has in training. A cell that is not of that type becomes null, and the column
`_bad_cells` keeps its text; such a row goes to quarantine and has no score.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping

import polars as pl

from ml_pipelines._utils.canonical_json import load_json
from ml_pipelines.contracts import DataPin, Identity, JsonValue
from ml_pipelines.data.canonical_keys import with_canonical_key
from ml_pipelines.data.column_expressions import check_reserved_names, missing_column_error
from ml_pipelines.data.column_types import DTYPES
from ml_pipelines.data.source_table import SourceTable, open_source, source_errors
from ml_pipelines.data.type_inference import parse_columns
from ml_pipelines.errors import DataError, NoRows
from ml_pipelines.modeling.records import data_features
from ml_pipelines.pipeline.batch_parameters import IngestBatchParameters
from ml_pipelines.pipeline.step import References, Resolution, StepOutput
from ml_pipelines.ports import DataSource, Services
from ml_pipelines.promotion.champion import scoring_version
from ml_pipelines.promotion.deployment import ensure_model_artifact
from ml_pipelines.promotion.model_files import RUN_END_SECONDS, recorded_version
from ml_pipelines.spec.batch import ROW_COLUMN
from ml_pipelines.spec.checks import ColumnType

__all__ = ["ingest_batch", "resolve"]


def resolve(
    parameters: IngestBatchParameters, inputs: References, services: Services, identity: Identity
) -> Resolution:
    """Pin the data and the version of the model, and copy the model's files into this store.

    Returns:
        Values `pin`, and `model`: `name`, `version`, and the references `artifact` and `training`.

    Raises:
        RegistryError: the version does not exist, or the ledger has no record of its files.
        ArtifactCorrupt: the registry names or serves another model file than was registered.
        ServiceUnavailable: the registry does not answer, or the run that registered the version has not ended.
    """
    version = scoring_version(services.registry, parameters.model)
    record = recorded_version(services.ledger, version, wait_seconds=RUN_END_SECONDS)
    model, text = ensure_model_artifact(services, version, record), services.read(record.training)
    training = services.copy_artifact(record.training, text)
    # A batch may have fractions in a column that has only whole numbers in training; the model takes both as floats.
    document = load_json(text)
    types = {
        feature["name"]: "float" if feature["dtype"] == "integer" else feature["dtype"]
        for feature in data_features(document)
    }
    source = services.source(parameters.source)
    pin = source.pin()
    pinned: dict[str, JsonValue] = {
        "name": version.model,
        "version": version.version,
        "artifact": model.model_dump(mode="json"),
        "training": training.model_dump(mode="json"),
    }
    formats = document.get("formats", {})
    arguments = {"features": types, "formats": formats, "model": f"{version.model} version {version.version}"}
    return Resolution(
        key_facts={"data": pin.digest, "features": {**types}, **({"formats": formats} if formats else {})},
        values={"pin": pin.model_dump(mode="json"), "model": pinned},
        cacheable=pin.digest is not None,
        prepare=lambda directory: {"source": _fetch(source, pin, directory), **arguments},
    )


def ingest_batch(
    *,
    source: SourceTable | None,
    features: Mapping[str, ColumnType],
    model: str,
    parameters: IngestBatchParameters,
    seed: int,
    formats: Mapping[str, str] | None = None,
) -> StepOutput:
    """Read key, features and columns to keep as typed columns, in the order of the source.

    The key gets its canonical form, so that scores name a row as the training does.

    Args:
        source: the checked file; None if there are no rows.
        features: types of the columns that the model needs.
        model: name and version of the model, for error messages.
        parameters: the other columns.
        seed: not used.
        formats: formats of dates in text, by column.

    Returns:
        `table`: the rows, with a column `_bad_cells` if some cells are not of their type; it may be empty. Without a
        key it has the column `row`, see :data:`ml_pipelines.spec.batch.ROW_COLUMN`.
        Values: `empty_rows`, the number of records without any value in these columns.

    Raises:
        DataError: a column is missing, or its name is reserved.
        SourceUnreadable: the file is not a table.
    """
    types = {**parameters.types, **features}
    key = parameters.key
    names = list(dict.fromkeys([*([] if key is None else [key]), *features, *parameters.keep]))
    _check_row_column(names, key)
    if source is None:
        return _empty_table(names, types, key)
    check_reserved_names(names)
    _check_features(source, features, model)
    _check_roles(source, parameters)
    declared = {name: kind for name, kind in types.items() if name in names}
    try:
        with source_errors(source):
            table, rows, empty_rows = parse_columns(source, names, declared, key, formats=formats or {})
            table = _with_key(table, key, features)
    except NoRows:
        return _empty_table(names, types, key)
    return StepOutput(outputs={"table": table}, values={"empty_rows": empty_rows}, rows={("table",): rows})


def _with_key(table: pl.LazyFrame, key: str | None, features: Collection[str]) -> pl.LazyFrame:
    if key is None:
        return table.with_row_index(ROW_COLUMN)
    return table if key in features else with_canonical_key(table, key)


def _fetch(source: DataSource, pin: DataPin, directory: str) -> SourceTable | None:
    try:
        return open_source(source.fetch(pin, directory), pin.location, directory)
    except NoRows:
        return None


def _empty_table(names: list[str], types: Mapping[str, ColumnType], key: str | None) -> StepOutput:
    schema = {name: DTYPES[types.get(name, "string")] for name in names}
    table = pl.LazyFrame(schema=schema)
    table = table.with_row_index(ROW_COLUMN) if key is None else table
    return StepOutput(outputs={"table": table}, values={"empty_rows": 0})


def _check_row_column(names: list[str], key: str | None) -> None:
    if key is None and ROW_COLUMN in names:
        raise DataError(
            f"the column {ROW_COLUMN!r} is also the number of each row, because the batch has no key",
            where="data.key",
            expected=f"a key, or no column {ROW_COLUMN!r}",
            fix="declare the column that identifies rows as data.key",
        )


def _check_features(source: SourceTable, features: Mapping[str, ColumnType], model: str) -> None:
    columns = source.columns
    missing = [name for name in features if name not in columns]
    if not missing:
        return
    similar = {name: matches[0] for name in missing if (matches := difflib.get_close_matches(name, columns, 1))}
    suggestions = ", ".join(f"{match!r} for {name!r}" for name, match in similar.items())
    raise DataError(
        f"the batch lacks columns that {model} was trained with: {', '.join(missing)}",
        where=source.location,
        expected=f"the {len(features)} columns of its training, under the same names",
        got=", ".join(columns),
        fix=f"did you mean {suggestions}?" if suggestions else "add the columns, or choose a model without them",
    )


def _check_roles(source: SourceTable, parameters: IngestBatchParameters) -> None:
    keys = () if parameters.key is None else (parameters.key,)
    for role, names in {"key": keys, "column to keep": parameters.keep}.items():
        for name in names:
            if name not in source.columns:
                raise missing_column_error(name, role, source.columns, where=source.location)
