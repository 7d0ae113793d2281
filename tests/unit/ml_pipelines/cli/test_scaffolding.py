from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ml_pipelines.cli.app import main
from ml_pipelines.spec.loader import load_spec

Command = Callable[..., tuple[int, str, str]]
ROWS = "".join(f"{100 + row},{row * 7 % 50},{row % 3 // 2}\n" for row in range(200))


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Command:
    """Runs `ml-pipelines` with arguments in a folder with `shop.csv`: exit code, standard output and error."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shop.csv").write_text(f"id,age,left\n{ROWS}")

    def call(*arguments: str, answer: str | None = None) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["ml-pipelines", *arguments])
        monkeypatch.setattr(sys, "stdin", io.StringIO() if answer is None else Terminal(answer))
        with pytest.raises(SystemExit) as end:
            main()
        return (int(end.value.code or 0), *capsys.readouterr())

    return call


def test_init_shows_its_choices_and_the_next_command(command: Command, tmp_path: Path) -> None:
    code, out, err = command("init", "shop.csv", "--target", "left")
    assert (code, err) == (0, "")
    for text in ("model.task", "data.key", "gate.metric", "split", "wrote shop.yaml", "ml-pipelines run shop.yaml"):
        assert text in out
    assert load_spec(tmp_path / "shop.yaml").data.key == "id"


def test_init_asks_on_a_terminal_only(command: Command, tmp_path: Path) -> None:
    code, _, _ = command("init", "shop.csv", "--target", "left", answer="n\n")
    assert code == 1
    assert not (tmp_path / "shop.yaml").exists()
    code, _, _ = command("init", "shop.csv", "--target", "left", answer="y\n")
    assert code == 0
    code, out, _ = command("init", "shop.csv", "--target", "left", "--name", "two", "--yes", answer="")
    assert code == 0
    assert "?" not in out
    assert {path.stem for path in tmp_path.glob("*.yaml")} == {"shop", "two"}


def test_init_overwrites_nothing(command: Command, tmp_path: Path) -> None:
    (tmp_path / "shop.yaml").write_text("own")
    code, _, err = command("init", "shop.csv", "--target", "left", "--yes")
    assert code == 1
    assert err.startswith("RequestError: the file exists")
    assert (tmp_path / "shop.yaml").read_text() == "own"


def test_init_writes_nothing_after_an_error(command: Command, tmp_path: Path) -> None:
    code, _, err = command("init", "shop.csv", "--target", "lefd", "--yes")
    assert code == 1
    assert "did you mean 'left'?" in err
    assert list(tmp_path.glob("*.yaml")) == []


def test_new_creates_a_project(command: Command, tmp_path: Path) -> None:
    code, out, err = command("new", "project")
    assert (code, err) == (0, "")
    assert "wrote project/README.md" in out
    assert (tmp_path / "project" / "dags" / "ml_doctor.py").exists()
    code, _, err = command("new", "project")
    assert code == 1
    assert err.startswith("RequestError: a project needs its own folder")
