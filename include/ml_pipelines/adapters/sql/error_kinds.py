"""Classify errors of databases: the only place that decides whether a database error is transient.

The SQLSTATE decides, or the number of a driver that has its own: SQLite, MySQL, Oracle. Without them, the class of the
exception decides. `OperationalError` is the class of both a wrong password and a lost connection, and most drivers give
no SQLSTATE for either. So a list of texts names the failed connections that are final; all others are transient.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from typing import Any

from sqlalchemy import exc as sa_errors

from ml_pipelines._utils.error_kinds import ErrorKind, kind_of_error

__all__ = ["kind_of_database_error", "sqlstate"]

# The longest prefix of a SQLSTATE counts; a state without one is final. https://www.postgresql.org/docs/current/errcodes-appendix.html
_STATES = {
    "08": "unavailable",
    "08P01": "unavailable",  # poolers answer so while their server restarts
    "25006": "read-only",
    "25P03": "unavailable",
    "25P04": "unavailable",
    "26": "unavailable",  # a pooler has changed the session
    "28": "denied",
    "3D": "missing",
    "3F": "missing",
    "40": "unavailable",
    "42501": "denied",
    "42P01": "missing",
    "42S02": "missing",
    "53": "unavailable",
    "53100": "full",
    "55": "unavailable",
    "55000": "invalid",
    "57": "unavailable",
    "57P04": "missing",
    "58": "unavailable",
    "58P01": "damaged",
    "F0": "unavailable",
    "HV00N": "unavailable",  # a foreign server
    "HYT": "unavailable",  # ODBC
    "XX": "unavailable",
    "XX001": "damaged",
    "XX002": "damaged",
}
_GENERAL_STATES = frozenset({"00000", "HY000"})  # of drivers that have a number for what happened
_SQLITE = {
    sqlite3.SQLITE_PERM: "denied",
    sqlite3.SQLITE_READONLY: "read-only",
    sqlite3.SQLITE_AUTH: "denied",
    sqlite3.SQLITE_CANTOPEN: "missing",
    sqlite3.SQLITE_CORRUPT: "damaged",
    sqlite3.SQLITE_NOTADB: "damaged",
    sqlite3.SQLITE_FULL: "full",
    sqlite3.SQLITE_ABORT: "unavailable",
    sqlite3.SQLITE_BUSY: "unavailable",
    sqlite3.SQLITE_INTERRUPT: "unavailable",
    sqlite3.SQLITE_IOERR: "unavailable",
    sqlite3.SQLITE_LOCKED: "unavailable",
    sqlite3.SQLITE_NOMEM: "unavailable",
    sqlite3.SQLITE_PROTOCOL: "unavailable",
    sqlite3.SQLITE_SCHEMA: "unavailable",
}
# https://dev.mysql.com/doc/mysql-errors/8.0/en/server-error-reference.html, and clients' numbers from 2000.
_MYSQL = {
    "missing": {1049, 1051, 1109, 1146},
    "denied": {1044, 1045, 1095, 1142, 1143, 1227, 1370, 1410, 1698, 1820, 1862, 3118, 2059, 2061},
    "read-only": {1290, 1792, 1836},
    "full": {1021, 1114},
    "unavailable": {1037, 1038, 1040, 1041, 1043, 1053, 1077, 1078, 1079, 1105, 1129, 1152, 1158, 1159, 1160, 1161}
    | {1180, 1184, 1203, 1205, 1213, 1226, 1317, 1429, 1430, 1613, 1614, 1637, 3024, 3058, 3572, 4031}
    | {2002, 2003, 2005, 2006, 2012, 2013, 2014, 2055},
}
_TEXTS: tuple[tuple[str, ErrorKind], ...] = (
    (
        r"authentication failed|access denied|permission denied|no password supplied|password .*(required|expired)"
        r"|(role|user) .*(does not|doesn't) exist|no pg_hba\.conf entry|not permitted to log in"
        r"|login failed|is not authorized|invalid (username|user name|credential)",
        ErrorKind.DENIED,
    ),
    (
        r"no such table|(table|database|schema|relation|view)\W.*(does not|doesn't) exist|unknown database"
        r"|unable to open database file",
        ErrorKind.MISSING,
    ),
    (r"read-?only", ErrorKind.READ_ONLY),
    (r"not a database|malformed|database corrupt", ErrorKind.DAMAGED),
    (r"no space left|disk is full|disk full", ErrorKind.FULL),
    (
        r"no such (column|function)|syntax error|incomplete input|could not decode|invalid (dsn|port|sslmode|uri)"
        r"|invalid connection option|invalid integer value|invalid \w+ value: |certificate|does not support SSL"
        r"|cannot operate on a closed|libpq.*not (found|supported)|embedded null|null (byte|character)",
        ErrorKind.INVALID,
    ),
)
# Classes of the DB-API whose errors a retry repeats.
_FINAL_CLASSES = frozenset({"ProgrammingError", "DataError", "IntegrityError", "NotSupportedError", "Warning"})


def kind_of_database_error(exc: BaseException) -> ErrorKind:
    """Return the kind of an error of SQLAlchemy or of a database's driver."""
    cause = _driver_error(exc)
    if kind := _kind_of_code(cause):
        return kind
    text = " ".join(str(cause).split())
    for pattern, kind in _TEXTS:
        if re.search(pattern, text, re.IGNORECASE):
            return kind
    return _kind_of_class(cause)


def sqlstate(exc: BaseException) -> str:
    """Return the SQLSTATE of an error, or an empty text."""
    cause = _driver_error(exc)
    first = next(iter(cause.args), None)
    candidates = (getattr(cause, "sqlstate", None), getattr(cause, "pgcode", None), first)
    # pg8000 has a dictionary, and ODBC has the SQLSTATE as the first argument.
    states = (value.get("C") if isinstance(value, dict) else value for value in candidates)
    return next((state for state in states if isinstance(state, str) and re.fullmatch(r"[0-9A-Z]{5}", state)), "")


def _driver_error(exc: BaseException) -> BaseException:
    return (isinstance(exc, sa_errors.DBAPIError) and exc.orig) or exc


def _kind_of_code(cause: BaseException) -> ErrorKind | None:
    if isinstance(cause, sqlite3.Error):
        # An extended code has the code in its lowest byte.
        code = getattr(cause, "sqlite_errorcode", None)
        return None if code is None else _kind(_SQLITE.get(code & 0xFF))
    state = sqlstate(cause)
    prefixes = (state[:length] for length in range(len(state), 1, -1))
    by_state = next((_STATES[prefix] for prefix in prefixes if prefix in _STATES), None)
    if state and state not in _GENERAL_STATES:
        return ErrorKind(by_state or "invalid")
    return _kind(next(_kinds_of_number(cause), None))


def _kinds_of_number(cause: Any) -> Iterator[str]:
    """Kinds of the number that MySQL's drivers have as the first argument, and of Oracle's flag."""
    first = next(iter(cause.args), None)
    if isinstance(first, int):
        yield from (kind for kind, numbers in _MYSQL.items() if first in numbers)
    if getattr(first, "isrecoverable", False):
        yield "unavailable"


def _kind(name: str | None) -> ErrorKind | None:
    return None if name is None else ErrorKind(name)


def _kind_of_class(cause: BaseException) -> ErrorKind:
    names = {kind.__name__ for kind in type(cause).__mro__}
    if names & _FINAL_CLASSES:
        return ErrorKind.INVALID
    if isinstance(cause, sqlite3.Error) and getattr(cause, "sqlite_errorcode", None) is not None:
        return ErrorKind.INVALID  # every transient error of SQLite has its own code
    if names & {"OperationalError", "InterfaceError", "InternalError", "DatabaseError", "Error"}:
        return ErrorKind.UNAVAILABLE
    return kind_of_error(cause) or ErrorKind.INVALID
