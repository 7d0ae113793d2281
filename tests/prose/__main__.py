"""Lint the language of documentation, docstrings, comments, messages and names: `python -m tests.prose [FILE ...]`.

The word list is `words.yml` beside this file; proselint adds its own checks. Exit code 1: at least one finding.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from proselint.checks import __register__ as proselint_checks
from proselint.registry import CheckRegistry
from tests.prose.texts import Text, assigned_names, texts_of

ROOT = Path(__file__).resolve().parents[2]
WORDS: dict[str, Any] = yaml.safe_load(Path(__file__).with_name("words.yml").read_text())
# `git ls-files` patterns.
LINTED = ["*.md", "include/**.py", "plugins/**.py", "dags/*", "Makefile", ".ci/run", "*.yml", "*.yaml", "*.toml"]
NOT_LINTED = re.compile(r"^tests/|^include/examples/.*requirements|sample_data|CODE_OF_CONDUCT")


class Finding(NamedTuple):
    """A place that breaks a rule."""

    path: str
    line: int
    message: str


class Rule(NamedTuple):
    """A pattern to avoid and its replacement."""

    pattern: re.Pattern[str]
    use: str


def rules(entries: Iterable[dict[str, str]], *, whole: bool = False) -> list[Rule]:
    """Compile entries of the word list; `whole` patterns match a complete name."""
    template = r"^_*(?:{})_*$" if whole else r"(?<![\w-])(?:{})(?![\w-])"
    return [Rule(re.compile(template.format(entry["avoid"]), re.IGNORECASE), entry["use"]) for entry in entries]


PROSE = rules(WORDS["prose"])
NAMES = rules(WORDS["names"]["forbidden"], whole=True)
LIMITED = set(WORDS["names"]["limited"])


def linted_files() -> list[Path]:
    """Return the tracked files that contain prose of the project."""
    command = ["git", "ls-files", "--", *LINTED]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    return [ROOT / name for name in names if not NOT_LINTED.search(name) and (ROOT / name).is_file()]


def avoided_words(path: str, text: Text) -> Iterator[Finding]:
    """Yield a finding for each phrase of the word list."""
    for rule in PROSE:
        for match in rule.pattern.finditer(text.content):
            yield Finding(path, text.line, f'"{match[0]}": use {rule.use}')


def proselint_findings(path: str, texts: list[Text]) -> Iterator[Finding]:
    """Yield the findings of proselint on all texts of a file."""
    registry = CheckRegistry()
    if not registry.checks:
        registry.register_many(proselint_checks)
    checks = registry.get_all_enabled(dict.fromkeys(WORDS["proselint"], True))
    for text in texts:
        content = "\n{}\n".format(re.sub(r"\s{2,}", ". ", text.content))  # columns of a table in a docstring
        for check in checks:
            for result in check.check_with_flags(content):
                phrase = content[slice(*result.span)].strip()
                if re.fullmatch(r"(X\W*)+", phrase):  # code stands as X
                    continue
                yield Finding(path, text.line, f'"{phrase}": {result.message} ({result.check_path})')


def long_sentences(text: Text) -> Iterator[int]:
    """Yield the number of words of each sentence, up to a colon or semicolon, that is too long."""
    for sentence in re.split(r"(?<=[.!?])\s+(?=[A-Z\"'(`X]|$)|[:;]\s+|\s{2,}", text.content):
        if (words := len(sentence.split())) > WORDS["sentences"]["words"]:
            yield words


def forbidden_names(path: str, names: list[tuple[int, str]]) -> Iterator[Finding]:
    """Yield a finding for each assigned name of the word list."""
    for line, name in names:
        for rule in NAMES:
            if rule.pattern.match(name):
                yield Finding(path, line, f"name `{name}`: use {rule.use}")


def main(arguments: list[str]) -> int:
    """Lint the named files, or all. Returns an exit code."""
    files = [Path(argument).resolve() for argument in arguments] or linted_files()
    findings, long, names = list[Finding](), list[Finding](), list[str]()
    for file in files:
        path, texts = str(file.relative_to(ROOT)), texts_of(file)
        findings += [finding for text in texts for finding in avoided_words(path, text)]
        findings += proselint_findings(path, texts)
        long += [
            Finding(path, text.line, f"sentence of {words} words") for text in texts for words in long_sentences(text)
        ]
        if file.suffix == ".py":
            assigned = assigned_names(file.read_text())
            findings += forbidden_names(path, assigned)
            names += [name.strip("_") for _, name in assigned]
    return report(findings, long, names, verbose=bool(arguments))


def report(findings: list[Finding], long: list[Finding], names: list[str], *, verbose: bool) -> int:
    """Print findings and budgets. Returns an exit code.

    Args:
        findings: errors.
        long: sentences that are too long; an error if they exceed the budget.
        names: all assigned names, without leading underscores.
        verbose: whether to list the long sentences.
    """
    for finding in sorted([*findings, *(long if verbose else [])]):
        print(f"{finding.path}:{finding.line}: {finding.message}")
    limited = sum(name in LIMITED for name in names)
    share = limited / len(names) if names else 0.0
    budget = WORDS["sentences"]["budget"]
    print(f"{len(findings)} findings; {len(long)} long sentences (budget {budget}); limited names {share:.2%}")
    return 1 if findings or len(long) > budget or share > WORDS["names"]["budget"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
