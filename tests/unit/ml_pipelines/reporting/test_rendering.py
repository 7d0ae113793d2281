from __future__ import annotations

from tests.html_document import parse_html

from ml_pipelines.reporting.components import (
    Annotated,
    Code,
    Details,
    Facts,
    Header,
    Link,
    Section,
    Table,
    Text,
    section,
    verdict_badge,
)
from ml_pipelines.reporting.rendering import render_figure, render_figure_file, render_page, show_invisible_characters
from ml_pipelines.reporting.svg import Axis, Figure, Frame, line

HEADER = Header(model="churn", verdict="Held", tone="wait", reason="so", facts=Facts([("Run", "r1"), ("Empty", None)]))
FRAME = Frame(x=Axis(low=0, high=1, label="x"), y=Axis(low=0, high=1, label="y"))
FIGURE = Figure("curve", "A <curve>", "rises & falls", FRAME, [line(FRAME, (0, 1), (0, 1), "candidate")])


def page(*sections: Section) -> str:
    return render_page("churn: Held", HEADER, sections)


def test_render_page_shows_header_and_omits_facts_without_value() -> None:
    document = parse_html(page())
    assert document.one("title").text == "churn: Held"
    assert document.one("h1").one("span").classes == {"verdict", "wait"}
    assert document.texts("dt") == ["Run"]
    assert not document.all("footer")


def test_render_page_renders_every_kind_of_cell() -> None:
    row = [
        Code("a<b"),
        Link("run", "https://airflow.example/?a=1&b=2"),
        Annotated("0.9", ["0.8 to 1.0"], "range"),
        verdict_badge(False, warning=True),
        "x" * 40,
    ]
    document = parse_html(page(section("s", "S", Table(head=("a", "b", "c", "d", "e"), rows=[row], numeric=(2,)))))
    assert document.one("code").text == "a<b"
    assert document.one("a").attributes["href"] == "https://airflow.example/?a=1&b=2"
    assert document.one("span", **{"class": "range"}).text == "0.8 to 1.0"
    assert document.one("span", **{"class": "mark wait"}).text == "! warn"
    assert [cell.classes for cell in document.one("tbody").all("td")] == [set(), {"num"}, set(), {"long"}]
    assert document.one("tbody").one("th").attributes["scope"] == "row"


def test_render_page_renders_nested_details() -> None:
    document = parse_html(page(section("s", "S", Details("More", [Text("inner", "note")]), None)))
    assert document.one("details").one("p").text == "inner"


def test_render_figure_escapes_texts_and_has_an_alternative() -> None:
    document = parse_html(render_figure(FIGURE))
    assert document.one("figcaption").text == "A <curve>"
    assert document.one("desc").text == "rises & falls"
    assert document.one("polyline").classes == {"line", "candidate"}


def test_render_figure_file_has_size_and_style() -> None:
    drawing = parse_html(render_figure_file(FIGURE).decode()).one("svg")
    assert (drawing.attributes["width"], drawing.attributes["height"]) == ("720", "540")
    assert drawing.all("style")


def test_show_invisible_characters_keeps_valid_text() -> None:
    assert show_invisible_characters("a\x00b\ud800é\n\u202e") == "a\\x00b\\ud800é\n\\u202e"
    assert show_invisible_characters(None) == ""
    assert show_invisible_characters(3) == 3
