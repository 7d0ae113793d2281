"""Add the project's addresses to the metadata of a build, and make the README's links absolute.

The address of the repository is the environment variable `PROJECT_URL`, else that of the workflow run on GitHub.
A build without either, such as an editable install, has no addresses, and the README keeps its relative links.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!https?:|#)([^)]+)\)")


class ProjectAddresses(MetadataHookInterface):
    """Set `urls` and `readme`."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Change the metadata of the project."""
        url = project_url(os.environ)
        text = (Path(self.root) / "README.md").read_text()
        metadata["readme"] = {"content-type": "text/markdown", "text": absolute_links(text, url) if url else text}
        if url:
            metadata["urls"] = project_urls(url)


def project_url(environment: Any) -> str:
    """Return the address of the repository, without a slash at its end; empty if unknown."""
    if url := environment.get("PROJECT_URL", ""):
        return str(url).rstrip("/")
    server, repository = environment.get("GITHUB_SERVER_URL", ""), environment.get("GITHUB_REPOSITORY", "")
    return f"{server}/{repository}" if server and repository else ""


def project_urls(url: str) -> dict[str, str]:
    """Return the addresses that a package index shows."""
    return {
        "Source": url,
        "Documentation": f"{url}/tree/HEAD/docs",
        "Changelog": f"{url}/blob/HEAD/CHANGELOG.md",
        "Issues": f"{url}/issues",
    }


def absolute_links(text: str, url: str) -> str:
    """Return Markdown whose relative links and images refer to the repository."""
    return LINK.sub(lambda m: f"{m[1]}[{m[2]}]({url}/{'raw' if m[1] else 'blob'}/HEAD/{m[3]})", text)
