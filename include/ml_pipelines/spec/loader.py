"""Read declarations from YAML files. An error lists all issues of the file, with their lines and hints."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar, cast, get_args, get_origin

from pydantic import BaseModel, ValidationError

from ml_pipelines.errors import SpecError, SpecIssue
from ml_pipelines.escaping import visible
from ml_pipelines.spec.batch import DriftSpec, ScoringSpec
from ml_pipelines.spec.code_folder_import import use_code_folder
from ml_pipelines.spec.code_packages import CODE_PATH
from ml_pipelines.spec.cross_field_rules import check_drift, check_scoring, check_training
from ml_pipelines.spec.declaration_base import Declaration
from ml_pipelines.spec.difference_limits import POSITIVE_SHARE, SHARE
from ml_pipelines.spec.kinds import KINDS, Kind, find_kind
from ml_pipelines.spec.message_text import closest_match, did_you_mean, format_value, one_of
from ml_pipelines.spec.sources import LINE, LINES, DataSection, source_class, source_kinds
from ml_pipelines.spec.training import PipelineSpec
from ml_pipelines.spec.yaml_source import Document, Loc, Span, YamlIssue, YamlSyntaxError, read, split_lines

__all__ = ["declaration_kind", "load_drift", "load_scoring", "load_spec", "parse_drift", "parse_scoring", "parse_spec"]

Spec = TypeVar("Spec", bound=Declaration)

Rules = Callable[[Any], list[YamlIssue]]

_RULES: dict[type[BaseModel], Rules] = {
    PipelineSpec: check_training,
    ScoringSpec: check_scoring,
    DriftSpec: check_drift,
}

_EXCERPT_COLUMNS = 110

# Error type of pydantic -> the expected value.
_EXPECTED = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing_size": "a whole number of fewer digits",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "tuple_type": "a list",
    "dict_type": "a mapping of names to values",
    "greater_than": "a number above {gt}",
    "greater_than_equal": "a number of at least {ge}",
    "less_than": "a number below {lt}",
    "less_than_equal": "a number of at most {le}",
    "string_too_long": "at most {max_length} characters",
    "string_too_short": "text that is not empty",
}
_PATTERNS = {
    r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$": (
        "a name of the letters a to z, digits, _ . and - that begins with a letter, digit or _"
    ),
    LINE: "one line of text without control characters",
    LINES: "text without control characters",
    SHARE: "a share such as 1%",
    POSITIVE_SHARE: "a share such as 1%",
    CODE_PATH: "an import path such as shop_code:add_ratios",
    r"^[A-Za-z][\w-]*$": "a name of letters, digits, _ and - only that begins with a letter",
}


def load_spec(
    path: str | Path,
    *,
    name: str | None = None,
    sections: Mapping[str, Any] | None = None,
    rules: Rules = lambda data: [],
) -> PipelineSpec:
    """Read the declaration of a training pipeline.

    Args:
        path: YAML file in UTF-8.
        name: name of the pipeline; by default the one in the file, or else the stem of the file.
        sections: values of the sections that the file does not declare.
        rules: further rules; they return the issues of the plain data of the file.

    Raises:
        SpecError: the file is invalid; the error has all issues.
    """
    return _loaded(PipelineSpec, path, name=name, sections=sections, rules=rules)


def load_scoring(path: str | Path) -> ScoringSpec:
    """Read the declaration of batch scoring; raises as :func:`load_spec`."""
    return _loaded(ScoringSpec, path)


def parse_spec(
    text: str, *, path: str | Path, name: str | None = None, sections: Mapping[str, Any] | None = None
) -> PipelineSpec:
    """Read the declaration of a training pipeline from text, as :func:`load_spec`; errors name it `path`."""
    return _parsed(PipelineSpec, text, path, name=name, sections=sections)


def parse_scoring(text: str, *, path: str | Path) -> ScoringSpec:
    """Read the declaration of batch scoring from text; raises as :func:`load_spec`."""
    return _parsed(ScoringSpec, text, path)


def parse_drift(text: str, *, path: str | Path) -> DriftSpec:
    """Read the declaration of drift monitoring from text; raises as :func:`load_spec`."""
    return _parsed(DriftSpec, text, path)


def load_drift(path: str | Path) -> DriftSpec:
    """Read the declaration of drift monitoring; raises as :func:`load_spec`."""
    return _loaded(DriftSpec, path)


def declaration_kind(path: str | Path) -> Kind:
    """Return the kind of a declaration, see :func:`~ml_pipelines.spec.kinds.find_kind`.

    Raises:
        SpecError: the file can't be read.
    """
    try:
        return find_kind(read(_text(path)).data)[0]
    except YamlSyntaxError:
        return "training"


def _text(path: str | Path) -> str:
    try:
        content = Path(path).read_bytes()
    except FileNotFoundError as exc:
        raise SpecError("the declaration does not exist", where=str(path), fix="check the path") from exc
    except (OSError, ValueError) as exc:  # ValueError: a null byte in the path
        reason = getattr(exc, "strerror", None) or str(exc)
        raise SpecError(
            "the declaration can't be read", where=str(path), got=reason, fix="pass the path of a YAML file"
        ) from exc
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as exc:
        before = split_lines(content[: exc.start].decode("utf-8"))
        span = Span(len(before), len(before[-1]) + 1)
        message = f"expected UTF-8 text, got the byte 0x{content[exc.start]:02x}"
        issue = YamlIssue(loc=(), message=message, hint="save the file as UTF-8", span=span)
        document = Document(values={(): span})
        raise _error([issue], document, text=content.decode("utf-8", "replace"), path=path) from exc


def _loaded(kind: type[Spec], path: str | Path, **options: Any) -> Spec:
    """Read a file, whose folder may hold modules that it names."""
    text = _text(path)
    use_code_folder(Path(path).parent)
    spec = _parsed(kind, text, path, **options)
    spec.set_folder(Path(path).parent.resolve())
    return spec


def _parsed(
    kind: type[Spec],
    text: str,
    path: str | Path,
    *,
    name: str | None = None,
    sections: Mapping[str, Any] | None = None,
    rules: Rules = lambda data: [],
) -> Spec:
    text = text.removeprefix("\ufeff")
    try:
        document = read(text)
    except YamlSyntaxError as exc:
        raise _error([exc.issue], Document(values={(): Span(1, 1)}), text=text, path=path) from exc
    label = KINDS[_kind_of(kind)].label
    if not isinstance(document.data, dict):
        raise _error([_not_a_mapping(kind, document.data)], document, text=text, path=path, label=label)
    _raise_other_kind(kind, document.data, path)
    data = {"name": Path(path).stem, **(sections or {}), **document.data}
    if name is not None:
        data["name"] = name
    spec, type_issues = _validated(kind, data)
    issues = [*document.issues, *type_issues, *_RULES[kind](data), *rules(data)]
    if spec is None or issues:
        raise _error(issues, document, text=text, path=path, label=label)
    return spec


def _kind_of(spec: type[BaseModel]) -> Kind:
    return cast("Kind", spec.model_fields["kind"].default)


def _raise_other_kind(kind: type[BaseModel], data: dict[str, Any], path: str | Path) -> None:
    """Raise one error if the file declares another kind, instead of an issue for every section."""
    expected, (actual, sign) = _kind_of(kind), find_kind(data)
    if actual == expected or not sign:
        return
    raise SpecError(
        f"the file declares a {KINDS[actual].label}",
        where=str(path),
        expected=f"a {KINDS[expected].label}",
        got=f"a {KINDS[actual].label}, as its content shows ({sign})",
        fix=f"{KINDS[actual].readers}; if it is a {KINDS[expected].label}, add `kind: {expected}`",
    )


def _not_a_mapping(kind: type[BaseModel], data: Any) -> YamlIssue:
    least = " and ".join(name for name, field in kind.model_fields.items() if field.is_required() and name != "name")
    if data is None:
        return YamlIssue(loc=(), message="the file is empty", hint=f"declare at least {least}")
    return YamlIssue(loc=(), message=f"expected fields such as {least}, got {format_value(data)}")


def _validated(kind: type[Spec], data: dict[str, Any]) -> tuple[Spec | None, list[YamlIssue]]:
    try:
        return kind.model_validate(data), []
    except ValidationError as exc:
        return None, list(_translated(kind, exc, data))


def _translated(spec: type[BaseModel], exc: ValidationError, data: dict[str, Any]) -> Iterator[YamlIssue]:
    """Translate the errors of pydantic into issues; the branches of a union become one issue."""
    errors = exc.errors(include_url=False, include_input=False)
    misspelled = {_similar_field(spec, error["loc"]) for error in errors if error["type"] == "extra_forbidden"}
    branches: dict[Loc, list[str]] = {}
    for error in errors:
        kind, loc, context = error["type"], _inside(data, error["loc"]), error.get("ctx", {})
        if kind == "missing":
            if error["loc"] not in misspelled:
                yield YamlIssue(loc=error["loc"], message=f'the field "{error["loc"][-1]}" is missing')
        elif kind == "extra_forbidden":
            yield _unknown_field(spec, loc)
        elif kind == "value_error":
            yield YamlIssue(loc=loc, message=str(context["error"]))
        elif kind == "model_type":
            yield _not_a_section(spec, loc, _reach(data, loc))
        elif kind == "literal_error":
            yield _no_choice(loc, _reach(data, loc), re.findall(r"'([^']*)'", context["expected"]))
        elif kind == "string_pattern_mismatch":
            wanted = _PATTERNS.get(context["pattern"], f"text that matches {context['pattern']}")
            branches.setdefault(loc, []).append(wanted)
        else:
            wanted = _EXPECTED[kind].format_map(_plain_limits(context)) if kind in _EXPECTED else error["msg"]
            branches.setdefault(loc, []).append(wanted)
    for loc, wants in branches.items():
        yield _wrong_value(loc, _reach(data, loc), wants)


def _plain_limits(context: dict[str, Any]) -> dict[str, Any]:
    """Return the limits with whole numbers as integers: 1 instead of 1.0."""
    return {name: int(x) if isinstance(x, float) and x.is_integer() else x for name, x in context.items()}


def _inside(data: Any, loc: Loc) -> Loc:
    """Return the part of a location that is in the data; pydantic appends the branches of a union."""
    for depth, part in enumerate(loc):
        if not (part in data if isinstance(data, dict) else isinstance(data, list) and isinstance(part, int)):
            return loc[:depth]
        data = data[part]
    return loc


def _reach(data: Any, loc: Loc) -> Any:
    for part in loc:
        data = data[part]
    return data


def _wrong_value(loc: Loc, value: Any, wants: list[str]) -> YamlIssue:
    hint = "the default is the name of the file" if loc == ("name",) else ""
    if wants == ["text"] and isinstance(value, int | float):
        hint = f'put it in quotes: "{format_value(value)}"'
    return YamlIssue(
        loc=loc, message=f"expected {' or '.join(dict.fromkeys(wants))}, got {format_value(value)}", hint=hint
    )


def _no_choice(loc: Loc, value: Any, choices: list[str]) -> YamlIssue:
    hint = did_you_mean(value, choices) if isinstance(value, str) else ""
    return YamlIssue(loc=loc, message=f"expected {one_of(choices)}, got {format_value(value)}", hint=hint)


def _similar_field(spec: type[BaseModel], loc: Loc) -> Loc:
    """Return the field that an unknown one resembles: it is not reported as missing, too."""
    return (*loc[:-1], closest_match(str(loc[-1]), _fields(_section_at(spec, loc[:-1]))))


def _unknown_field(spec: type[BaseModel], loc: Loc) -> YamlIssue:
    fields = _fields(_section_at(spec, loc[:-1]))
    message = f"unknown field {format_value(loc[-1])}: expected {one_of(fields)}"
    return YamlIssue(loc=loc, message=message, hint=did_you_mean(str(loc[-1]), fields), at_key=True)


def _fields(section: type[BaseModel]) -> list[str]:
    """The fields that a section may have in a declaration, those of installed source kinds included."""
    extensions = source_kinds() if issubclass(section, DataSection) else ()
    return list(dict.fromkeys((*section.model_fields, *extensions)))


def _not_a_section(spec: type[BaseModel], loc: Loc, value: Any) -> YamlIssue:
    fields = _section_at(spec, loc).model_fields
    required = [name for name, field in fields.items() if field.is_required()]
    hint = "" if value is not None else "add fields, or remove it"
    if len(required) == 1 and not isinstance(value, dict | list | None):
        hint = f"write {{{required[0]}: {value}}}"
    return YamlIssue(
        loc=loc, message=f"expected a mapping (fields: {', '.join(fields)}), got {format_value(value)}", hint=hint
    )


def _section_at(spec: type[BaseModel], loc: Loc) -> type[BaseModel]:
    """Return the class of the section at the location of a validation error."""
    kind: Any = spec
    for part in loc:
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            kind = kind.model_fields[part].annotation if part in kind.model_fields else source_class(str(part))
        else:
            kind = get_args(kind)[1 if get_origin(kind) is dict else 0]
        if type(None) in get_args(kind):
            kind = get_args(kind)[0]
    section: type[BaseModel] = kind
    return section


def _error(issues: list[YamlIssue], document: Document, *, text: str, path: str | Path, label: str = "") -> SpecError:
    lines = split_lines(text)
    located = [_locate(issue, document, lines, str(path)) for issue in _distinct(issues)]
    located.sort(key=lambda issue: (issue.line, issue.column))
    count = "1 issue" if len(located) == 1 else f"{len(located)} issues"
    kind = f", which is read as a {label}" if label else ""
    return SpecError(f"{count} in {path}{kind}", issues=tuple(located))


def _distinct(issues: Iterable[YamlIssue]) -> list[YamlIssue]:
    """Return the first issue of every location, and an issue of the whole file only if it is the only one."""
    by_place: dict[tuple[Loc, bool], YamlIssue] = {}
    for issue in issues:
        by_place.setdefault((issue.loc, issue.at_key), issue)
    return [issue for issue in by_place.values() if issue.loc or issue.span or len(by_place) == 1]


def _locate(issue: YamlIssue, document: Document, lines: list[str], file: str) -> SpecIssue:
    span = issue.span or document.span(issue.loc, at_key=issue.at_key)
    last = len(lines) - (len(lines) > 1 and not lines[-1])
    if span.line > last:  # the parser reached the end of the file
        span = Span(last, len(lines[last - 1]) + 1)
    return SpecIssue(
        file=file,
        line=span.line,
        column=span.column,
        path=visible("".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in issue.loc).lstrip(".")),
        # Airflow stores the message of an import error, and PostgreSQL stores no null character.
        message=visible(issue.message),
        hint=visible(issue.hint),
        excerpt=_excerpt(span, lines[span.line - 1]),
    )


def _excerpt(span: Span, source: str) -> str:
    """Return the line of the file, or a part of a long line, with a marker under the place."""
    start = max(0, span.column - 81)
    window = source[start : start + _EXCERPT_COLUMNS]
    part = "".join(character if character.isprintable() else " " for character in window).rstrip()
    column = min(span.column - 1 - start, len(part))
    marker = "^" * max(1, min(span.width, len(part) - column))
    gutter = f"  {span.line} | "
    return f"{gutter}{part}\n{' ' * (len(gutter) - 2)}| {' ' * column}{marker}"
