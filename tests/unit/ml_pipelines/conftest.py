from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ml_pipelines._utils.entry_points import find_entry_points

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Return a function that installs a package with one module and its entry points into a folder on sys.path."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def install_package(module: str, code: str, **groups: dict[str, str]) -> None:
        (tmp_path / f"{module}.py").write_text(code)
        information = tmp_path / f"{module}-1.0.dist-info"
        information.mkdir()
        (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
        sections = [
            f"[ml_pipelines.{group}]\n" + "".join(f"{name} = {value}\n" for name, value in entries.items())
            for group, entries in groups.items()
        ]
        (information / "entry_points.txt").write_text("\n".join(sections))
        find_entry_points.cache_clear()

    yield install_package
    find_entry_points.cache_clear()
