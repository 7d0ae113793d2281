"""Database addresses as SQLAlchemy URLs."""

from __future__ import annotations

from dataclasses import replace

import sqlalchemy as sa
from sqlalchemy import exc as sa_errors

from ml_pipelines._utils.addresses import Address

__all__ = ["URL_FIX", "parse_database_url", "show_database_url"]

URL_FIX = "correct it; in user and password, write special characters as %XX: %40 for @, %2F for / and so on"


def parse_database_url(text: str) -> sa.URL | None:
    """Return the URL of an address; None if it is not one, or if it is unclear where the credentials end."""
    address = Address.parse(text)
    if address is None or address.is_ambiguous:
        return None
    # Other tools use postgres, and Airflow installs the driver psycopg2, which is not the default of SQLAlchemy.
    scheme = "postgresql+psycopg2" if address.scheme in ("postgres", "postgresql") else address.scheme
    try:
        return sa.make_url(replace(address, scheme=scheme).encoded)
    except (sa_errors.ArgumentError, ValueError):
        return None


def show_database_url(url: sa.URL) -> str:
    """Return kind, host and name of a database, without credentials and options."""
    host = (url.host or "") + (f":{url.port}" if url.port else "")
    return f"{url.get_backend_name()}://{host}/{url.database or ''}"
