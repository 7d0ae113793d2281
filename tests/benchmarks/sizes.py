"""Measure the sizes of packages: `python tests/benchmarks/sizes.py NAME=FOLDER ...`; prints a Markdown table.

A file's size is its number of lines. A function's size is its number of lines with the signature and without the
docstring. Tests and templates are excluded.
"""

from __future__ import annotations

import ast
import statistics
import sys
from pathlib import Path

__all__ = ["function_sizes", "measure"]


def function_sizes(source: str) -> list[int]:
    """Return the number of lines of each function of a module."""
    sizes = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0]
            documented = (first.end_lineno or 0) - first.lineno + 1 if ast.get_docstring(node) else 0
            sizes.append((node.end_lineno or 0) - node.lineno + 1 - documented)
    return sizes


def measure(folder: Path) -> tuple[int, int, int, int, int, int]:
    """Return files, subpackages, p90 of file sizes, functions, and median and p90 of function sizes."""
    files = [path for path in folder.rglob("*.py") if not {"tests", "templates"} & set(path.relative_to(folder).parts)]
    sources = [path.read_text() for path in files]
    lines = [len(source.splitlines()) for source in sources]
    functions = [size for source in sources for size in function_sizes(source)]
    packages = len({path.parent for path in files} - {folder})
    return len(files), packages, p90(lines), len(functions), round(statistics.median(functions)), p90(functions)


def p90(values: list[int]) -> int:
    """Return the 90th percentile."""
    return sorted(values)[int(0.9 * (len(values) - 1))]


def main(arguments: list[str]) -> None:
    """Print one row for each `NAME=FOLDER`."""
    print("| Package | Files | Subpackages | File p90, lines | Functions | Function median | Function p90 |")
    print("|---|---|---|---|---|---|---|")
    for argument in arguments:
        name, _, folder = argument.partition("=")
        print(f"| {name} | {' | '.join(map(str, measure(Path(folder))))} |")


if __name__ == "__main__":
    main(sys.argv[1:])
