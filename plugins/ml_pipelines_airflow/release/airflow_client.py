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
UNAUTHORIZED, FORBIDDEN, SERVER_ERROR = 401, 403, 500
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
        dags = (
            DagState(row["dag_id"], row["bundle_version"], row["last_parsed_time"])
            for row in self._rows("dags", exclude_stale="true")
            if row["bundle_name"] == bundle
        )
        faults = (
            DagImportError(row["filename"], row["timestamp"], row["stack_trace"])
            for row in self._rows("importErrors")
            if row["bundle_name"] == bundle
        )
        return BundleState({dag.dag_id: dag for dag in dags}, {fault.file: fault for fault in faults})

    def _rows(self, name: str, **parameters: Any) -> Iterator[dict[str, Any]]:
        """Yield the rows of all pages of a list."""
        key, order = {"dags": ("dags", "dag_id"), "importErrors": ("import_errors", "id")}[name]
        rows, total = 0, 1
        while rows < total:
            page = self._get(f"/api/v2/{name}", limit=ROWS_PER_PAGE, offset=rows, order_by=order, **parameters)
            yield from page[key]
            # An empty page before the end: rows were deleted between two requests.
            rows, total = rows + len(page[key]), page["total_entries"] if page[key] else 0

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
        self.session.headers["Authorization"] = f"Bearer {self._content(response)['access_token']}"

    def _request(self, method: str, path: str, **request: Any) -> requests.Response:
        try:
            return self.session.request(method, f"{self.url}{path}", timeout=TIMEOUT_SECONDS, **request)
        except (requests.ConnectionError, requests.Timeout) as exc:
            raise ServiceUnavailable("Airflow does not answer", where=self.url, got=type(exc).__name__) from exc
        except requests.RequestException as exc:
            raise RequestError(
                "the address of the API is not valid", where=self.url, got=type(exc).__name__, fix="set AIRFLOW_API_URL"
            ) from exc

    def _content(self, response: requests.Response) -> Any:
        where = f"{response.request.method} {self.url}{response.request.path_url.partition('?')[0]}"
        got = f"{response.status_code} {response.reason}"
        if response.status_code >= SERVER_ERROR:
            raise ServiceUnavailable("Airflow returned a server error", where=where, got=got)
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
        except requests.RequestException as exc:
            raise RequestError(
                "the address is not the API of Airflow 3", where=where, got=got, fix="set AIRFLOW_API_URL"
            ) from exc
