"""Rendering of the templates: reports, figures of pages, and figures as files."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from ml_pipelines.reporting.components import Header, Section
from ml_pipelines.reporting.formatting import clip
from ml_pipelines.reporting.svg import Figure

__all__ = [
    "content_security_policy",
    "render_figure",
    "render_figure_file",
    "render_page",
    "replace_invalid_characters",
    "stylesheet",
]

_INVALID_IN_HTML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
_FILE_SCALE = 2


@cache
def stylesheet() -> Markup:
    """Return the style sheet of reports and web pages."""
    path = files("ml_pipelines.reporting") / "templates" / "report.css"
    return Markup(path.read_text(encoding="utf-8"))  # noqa: S704  a file of this package


@cache
def content_security_policy() -> str:
    """Return the policy of a report: only its own style sheet, by its hash; no script and no request."""
    digest = base64.b64encode(hashlib.sha256(stylesheet().encode()).digest()).decode()
    return f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


def render_page(title: str, header: Header, sections: Sequence[Section], footer: str = "") -> str:
    """Return a report as one HTML document. Equal arguments give equal bytes."""
    template = _environment().get_template("report.html.j2")
    return template.render(title=title, header=header, sections=sections, footer=footer)


def render_figure(figure: Figure) -> Markup:
    """Return a figure as a part of a page, with its caption."""
    return _figure_macros().figure(figure)  # type: ignore[no-any-return]


def render_figure_file(figure: Figure) -> bytes:
    """Return a figure as an SVG file with its own size and style sheet."""
    size = (f"{_FILE_SCALE * figure.frame.width:g}", f"{_FILE_SCALE * figure.frame.height:g}")
    return str(_figure_macros().drawing(figure, size, stylesheet())).strip().encode()


def replace_invalid_characters(value: Any) -> Any:
    """Replace characters that HTML and UTF-8 do not allow; None becomes an empty text."""
    if value is None:
        return ""
    if isinstance(value, str) and not isinstance(value, Markup):
        return _INVALID_IN_HTML.sub("\N{REPLACEMENT CHARACTER}", value)
    return value


def _figure_macros() -> Any:
    return _environment().get_template("figure.svg.j2").module


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("ml_pipelines.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=replace_invalid_characters,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["clip"] = clip
    environment.globals.update(content_security_policy=content_security_policy(), stylesheet=stylesheet())
    return environment
