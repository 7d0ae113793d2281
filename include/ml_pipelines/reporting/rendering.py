"""Rendering of the templates: reports, figures of pages, and figures as files."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from ml_pipelines.contracts import Finding
from ml_pipelines.escaping import visible
from ml_pipelines.reporting.components import Findings, Header, Section
from ml_pipelines.reporting.formatting import clip
from ml_pipelines.reporting.svg import Figure

__all__ = [
    "content_security_policy",
    "render_figure",
    "render_figure_file",
    "render_findings",
    "render_page",
    "show_invisible_characters",
    "stylesheet",
]

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


def render_findings(findings: Sequence[Finding]) -> Markup:
    """Return findings as a part of a page: the most severe first, many warnings folded; empty without findings."""
    return _component_macros().findings(Findings(findings)) if findings else Markup("")


def render_figure_file(figure: Figure) -> bytes:
    """Return a figure as an SVG file with its own size and style sheet."""
    size = (f"{_FILE_SCALE * figure.frame.width:g}", f"{_FILE_SCALE * figure.frame.height:g}")
    return str(_figure_macros().drawing(figure, size, stylesheet())).strip().encode()


def show_invisible_characters(value: Any) -> Any:
    """Write control and format characters of a text as escapes; None becomes an empty text."""
    if value is None:
        return ""
    return visible(value, lines=True) if isinstance(value, str) and not isinstance(value, Markup) else value


def _mark_code(text: str) -> Markup:
    """Return a text with the parts between backticks as code; escaped."""
    parts = [escape(visible(part)) for part in text.split("`")]
    if len(parts) % 2 == 0:
        return Markup("`").join(parts)
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if odd % 2 else part for odd, part in enumerate(parts)
    )


def _component_macros() -> Any:
    return _environment().get_template("components.html.j2").module


def _figure_macros() -> Any:
    return _environment().get_template("figure.svg.j2").module


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("ml_pipelines.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=show_invisible_characters,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(clip=clip, code=_mark_code)
    environment.globals.update(content_security_policy=content_security_policy(), stylesheet=stylesheet())
    return environment
