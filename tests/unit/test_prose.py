"""The prose linter: which texts it reads, and which findings it reports."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.prose.__main__ import avoided_words, forbidden_names, long_sentences, main
from tests.prose.texts import Text, assigned_names, texts_of

PYTHON = '''"""Return the rows.

Args:
    path: of a file.
"""
# A reason for the code below.
log.info("the run %s was told to stop", run)
each = {"key": 1}
'''


@pytest.fixture
def module(tmp_path: Path) -> Path:
    path = tmp_path / "module.py"
    path.write_text(PYTHON)
    return path


def test_texts_of_python_are_docstrings_comments_and_messages(module: Path) -> None:
    contents = [text.content for text in texts_of(module)]
    assert contents == ["Return the rows.", "of a file.", "A reason for the code below.", "the run %s was told to stop"]


def test_texts_of_markdown_leave_out_code(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Title\n\nText with `told` in\ncode.\n\n```\ntold\n```\n\n* an item\n")
    assert [(text.line, text.content) for text in texts_of(page)] == [
        (1, "Title"),
        (3, "Text with X in code."),
        (10, "an item"),
    ]


def test_avoided_words_match_whole_words() -> None:
    assert [finding.line for finding in avoided_words("a.md", Text(3, "It was told."))] == [3, 3]
    assert list(avoided_words("a.md", Text(3, "A retold story of untold length."))) == []


def test_forbidden_names_include_private_ones() -> None:
    names = assigned_names("_story = 1\ndef history(): ...\n")
    assert [finding.line for finding in forbidden_names("a.py", names)] == [1]


def test_long_sentences_counts_words() -> None:
    assert list(long_sentences(Text(1, " ".join(["word"] * 26) + ". Short one."))) == [26]


def test_main_exits_with_an_error_for_findings(capsys: pytest.CaptureFixture[str]) -> None:
    page = Path(__file__).parents[2] / "docs" / "index.md"
    assert main([str(page)]) == 0
    assert "0 findings" in capsys.readouterr().out
