"""A client of Airflow's REST API for the DAGs and import errors of a bundle."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import requests

from ml_pipelines.errors import RequestError, ServiceUnavailable

__all__ = ["AirflowApi", "BundleState", "DagImportError", "DagState"]

TIMEOUT_SECONDS = 60.0
ROWS_PER_PAGE = 100
# Errors of the network, also in the middle of an answer.
_UNANSWERED = (
    requests.ConnectionError,
    requests.Timeout,
    requests.exceptions.ChunkedEncodingError,
    requests.exceptions.ContentDecodingError,
)
UNAUTHORIZED, FORBIDDEN, SERVER_ERROR = 401, 403, 500
_LONGEST_TEXT = 200
# Fields of Airflow's rows with the names of this module.
_DAG_FIELDS = {"dag_id": "dag_id", "bundle_version": "version", "last_parsed_time": "parsed_at"}
_FAULT_FIELDS = {"filename": "file", "timestamp": "reported_at", "stack_trace": "text"}
_TYPES = {"version": (str, type(None)), "parsed_at": (str, type(None))}  # all others are texts
VARIABLES = ("AIRFLOW_API_URL", "AIRFLOW_API_USER", "AIRFLOW_API_PASSWORD")


@dataclass(frozen=True)
class DagState:
    """A DAG that Airflow serves.

    Attributes:
        dag_id: id of the DAG.
        version: version of its bundle; None if the bundle has no versions.
        parsed_at: time of the last parse of its file, in Airflow's format.
    """

    dag_id: str
    version: str | None
    parsed_at: str | None


@dataclass(frozen=True)
class DagImportError:
    """An import error of a DAG file.

    Attributes:
        file: path relative to the bundle.
        reported_at: time of the last failed import, in Airflow's format.
        text: traceback, or Airflow's message.
    """

    file: str
    reported_at: str
    text: str


@dataclass(frozen=True)
class BundleState:
    """State of a bundle at one time: its DAGs by id and its import errors by file."""

    dags: Mapping[str, DagState]
    faults: Mapping[str, DagImportError]


@dataclass
class AirflowApi:
    """A client of Airflow's REST API.

    Attributes:
        url: base URL of the API server.
        user: user with permission to read DAGs and import errors.
        password: password of the user.
    """

    url: str
    user: str
    password: str = field(repr=False)
    session: requests.Session = field(default_factory=requests.Session, repr=False)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> AirflowApi:
        """Read `AIRFLOW_API_URL`, `AIRFLOW_API_USER` and `AIRFLOW_API_PASSWORD`.

        Raises:
            RequestError: a variable is missing.
        """
        if missing := [name for name in VARIABLES if not environment.get(name)]:
            raise RequestError(
                f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not set",
                where="the environment",
                expected="the URL of Airflow's API, and a user with permission to read DAGs and import errors",
                fix="set the variables in the environment, not as arguments: other processes can read arguments",
            )
        url, user, password = (environment[name] for name in VARIABLES)
        return cls(url.rstrip("/"), user, password)

    def bundle_state(self, bundle: str) -> BundleState:
        """Return the served DAGs and the import errors of a bundle.

        Raises:
            ServiceUnavailable: Airflow does not answer, or returns a server error.
            RequestError: Airflow rejects the user or the request.
        """
        dags = [DagState(**row) for row in self._bundle_rows(bundle, "dags", _DAG_FIELDS, exclude_stale="true")]
        faults = [DagImportError(**row) for row in self._bundle_rows(bundle, "importErrors", _FAULT_FIELDS)]
        return BundleState({dag.dag_id: dag for dag in dags}, {fault.file: fault for fault in faults})

    def _bundle_rows(
        self, bundle: str, name: str, fields: Mapping[str, str], **parameters: Any
    ) -> Iterator[dict[str, Any]]:
        """Yield the fields of the rows of a bundle, with the names of this module."""
        for row in self._rows(name, **parameters):
            if not isinstance(row, dict) or not {"bundle_name", *fields} <= row.keys():
                raise self._malformed(name, f"rows with {', '.join(['bundle_name', *fields])}", row)
            if row["bundle_name"] == bundle:
                values = {own: row[field] for field, own in fields.items()}
                if any(type(value) not in _TYPES.get(own, (str,)) for own, value in values.items()):
                    raise self._malformed(name, f"texts in {', '.join(fields)}", row)
                yield values

    def _rows(self, name: str, **parameters: Any) -> Iterator[Any]:
        """Yield the rows of all pages of a list."""
        key, order = {"dags": ("dags", "dag_id"), "importErrors": ("import_errors", "id")}[name]
        rows, total = 0, 1
        while rows < total:
            page = self._get(f"/api/v2/{name}", limit=ROWS_PER_PAGE, offset=rows, order_by=order, **parameters)
            content, entries = (page.get(key), page.get("total_entries")) if isinstance(page, dict) else (None, None)
            if not isinstance(content, list) or not isinstance(entries, int):
                raise self._malformed(name, f"a list {key!r} and its total_entries", page)
            yield from content
            # An empty page before the end: rows were deleted between two requests.
            rows, total = rows + len(content), entries if content else 0

    def _malformed(self, name: str, expected: str, got: Any) -> ServiceUnavailable:
        return ServiceUnavailable(
            "Airflow answers with something else than its API returns",
            where=f"GET {self.url}/api/v2/{name}",
            expected=expected,
            got=repr(got)[:_LONGEST_TEXT],
            fix="check that AIRFLOW_API_URL leads to Airflow itself, not to the page of a proxy, then try again",
        )

    def _get(self, path: str, **parameters: Any) -> Any:
        if "Authorization" not in self.session.headers:
            self._login()
        response = self._request("GET", path, params=parameters)
        if response.status_code == UNAUTHORIZED:
            # A restarted server can reject an older token.
            self._login()
            response = self._request("GET", path, params=parameters)
        return self._content(response)

    def _login(self) -> None:
        self.session.headers.pop("Authorization", None)
        response = self._request("POST", "/auth/token", json={"username": self.user, "password": self.password})
        content = self._content(response)
        token = content.get("access_token") if isinstance(content, dict) else None
        if not isinstance(token, str) or not token.isascii() or not token.isprintable():
            raise ServiceUnavailable(
                "Airflow returned no token",
                where=f"POST {self.url}/auth/token",
                expected="an access_token",
                got=f"{response.status_code} {response.reason} with another content",
                fix="check that AIRFLOW_API_URL leads to Airflow itself, not to the page of a proxy, then try again",
            )
        self.session.headers["Authorization"] = f"Bearer {token}"

    def _request(self, method: str, path: str, **request: Any) -> requests.Response:
        try:
            return self.session.request(method, f"{self.url}{path}", timeout=TIMEOUT_SECONDS, **request)
        except _UNANSWERED as exc:
            raise ServiceUnavailable(
                "Airflow does not answer",
                where=self.url,
                got=type(exc).__name__,
                fix="check that the API server runs and can be reached from this machine",
            ) from exc
        except requests.RequestException as exc:
            raise RequestError(
                "the address of the API is not valid", where=self.url, got=type(exc).__name__, fix="set AIRFLOW_API_URL"
            ) from exc

    def _content(self, response: requests.Response) -> Any:
        where = f"{response.request.method} {self.url}{response.request.path_url.partition('?')[0]}"
        got = f"{response.status_code} {response.reason}"
        if response.status_code >= SERVER_ERROR:
            raise ServiceUnavailable(
                "Airflow returned a server error", where=where, got=got, fix="read the log of the API server"
            )
        if response.status_code in (UNAUTHORIZED, FORBIDDEN):
            raise RequestError(
                f"Airflow rejects the user {self.user!r}",
                where=where,
                got=got,
                fix="set AIRFLOW_API_USER and AIRFLOW_API_PASSWORD to a user that may read DAGs and import errors",
            )
        try:
            response.raise_for_status()
            return response.json()
        except (requests.RequestException, RecursionError) as exc:
            raise RequestError(
                "the address is not the API of Airflow 3", where=where, got=got, fix="set AIRFLOW_API_URL"
            ) from exc
