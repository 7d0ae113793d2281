"""The installed distribution of a module, by its import name."""

from __future__ import annotations

import functools
from importlib import metadata

__all__ = ["find_distribution"]

# Distributions whose name is not that of their module. Others are searched for, which takes longer.
_NAMES = {
    "dateutil": "python-dateutil",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "xgboost": "xgboost-cpu",
    "yaml": "PyYAML",
}


@functools.cache  # the search reads the metadata of installed distributions
def find_distribution(module: str) -> tuple[str, str] | None:
    """Return the name and version of the distribution of a top-level module; None if it has no distribution."""
    name = _NAMES.get(module, module)
    try:
        return name, metadata.version(name)
    except metadata.PackageNotFoundError:
        names = metadata.packages_distributions().get(module)
        return (names[0], metadata.version(names[0])) if names else None
