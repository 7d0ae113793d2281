"""Hooks of the docs site: generate the reference from the source, copy each page as Markdown, write `llms.txt`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import reference
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

PAGES = {
    "reference/training.md": reference.training,
    "reference/scoring.md": reference.scoring,
    "reference/drift.md": reference.drift,
    "reference/cli.md": reference.cli,
    "reference/settings.md": reference.settings,
    "reference/metrics.md": reference.metrics,
    "reference/api.md": reference.core_api,
    "reference/airflow-api.md": reference.airflow_api,
}
"""Path of a generated page -> the function that returns its Markdown."""

copies: dict[str, tuple[str, str]] = {}
"""URL of a page -> its title and Markdown."""


def on_files(files: Files, config: Any) -> Files:
    """Add the generated pages."""
    for path, generate in PAGES.items():
        files.append(File.generated(config, path, content=generate()))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Keep the Markdown of a page for its copy."""
    copies[page.url] = (str(page.title), markdown)
    return markdown


def on_post_build(config: Any, **_: Any) -> None:
    """Write `index.md` beside each page, `llms.txt`, and `llms-full.txt` with the text of all pages."""
    site = Path(config["site_dir"])
    index = [f"# {config['site_name']}", "", f"> {config['site_description']}", "", "## Pages", ""]
    texts = []
    for url, (title, markdown) in copies.items():
        text = reference.expand_api(markdown)
        (site / url / "index.md").write_text(text)
        texts.append(text)
        index.append(f"- [{title}]({config['site_url'] or ''}{'' if url in ('', './') else url}index.md)")
    (site / "llms.txt").write_text("\n".join([*index, ""]))
    (site / "llms-full.txt").write_text("\n\n".join(texts))
