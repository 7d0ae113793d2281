"""skops, imported in silence: it asks every loaded module for names, and Airflow's warn of deprecated ones."""

from __future__ import annotations

import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore", FutureWarning)
    import skops.io as skops_io

__all__ = ["skops_io"]
