"""What a search over parameters keeps after its fit: its best estimator."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["best_parameters", "discard_search_results"]

# Times differ between equal fits, and scorers are functions, which a stored model does not need.
_DISCARDED = ("cv_results_", "multimetric_", "refit_time_", "scorer_")


def best_parameters(estimator: Any) -> dict[str, Any]:
    """Return the parameters that a search has chosen, as `best_params`; empty for any other estimator."""
    best = getattr(estimator, "best_params_", None)
    return {} if best is None else {"best_params": {name: _plain(value) for name, value in best.items()}}


def discard_search_results(model: Any) -> None:
    """Delete the results that predictions do not need, in a fitted search or in those inside a model."""
    for part in _parts(model, set()):
        if hasattr(part, "best_estimator_"):
            for name in _DISCARDED:
                vars(part).pop(name, None)


def _parts(value: Any, seen: set[int]) -> Iterator[Any]:
    """An object of scikit-learn and those in it, each once."""
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, Mapping):
        inner = [*value.values()]
    elif isinstance(value, list | tuple):
        inner = [*value]
    elif type(value).__module__.startswith("sklearn.") and hasattr(value, "__dict__"):
        yield value
        inner = [*vars(value).values()]
    else:
        return
    for item in inner:
        yield from _parts(item, seen)


def _plain(value: Any) -> Any:
    """A value for a JSON document: numbers, texts and booleans as they are, others as text."""
    return value if isinstance(value, bool | int | float | str) or value is None else str(value)
