"""What a running Airflow says, over its REST API, of the DAGs of a bundle."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import requests

from ml_pipelines.errors import RequestError, ServiceUnavailable

__all__ = ["AirflowApi", "BundleState", "DagImportError", "DagState"]

ANSWER_SECONDS = 60.0
ROWS_PER_PAGE = 100
UNAUTHORIZED, FORBIDDEN, SERVER_ERROR = 401, 403, 500
VARIABLES = ("AIRFLOW_API_URL", "AIRFLOW_API_USER", "AIRFLOW_API_PASSWORD")


@dataclass(frozen=True)
class DagState:
    """A DAG as Airflow serves it.

    Attributes:
        dag_id: its name.
        version: of the bundle that it was parsed from; None if the bundle has no versions.
        parsed_at: when its file was parsed last, as Airflow writes it.
    """

    dag_id: str
    version: str | None
    parsed_at: str | None


@dataclass(frozen=True)
class DagImportError:
    """A DAG file that Airflow can't import.

    Attributes:
        file: relative to the bundle.
        reported_at: when it was found to be so last, as Airflow writes it.
        text: Python's traceback, or what Airflow says instead.
    """

    file: str
    reported_at: str
    text: str


@dataclass(frozen=True)
class BundleState:
    """What Airflow says of a bundle at one time: its DAGs by name, its import errors by file."""

    dags: Mapping[str, DagState]
    faults: Mapping[str, DagImportError]


@dataclass
class AirflowApi:
    """Airflow's REST API, asked as a user.

    Attributes:
        url: of the API server, without a path below it.
        user: a name that may read DAGs and import errors.
        password: of that user.
    """

    url: str
    user: str
    password: str = field(repr=False)
    session: requests.Session = field(default_factory=requests.Session, repr=False)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> AirflowApi:
        """Read `AIRFLOW_API_URL`, `AIRFLOW_API_USER` and `AIRFLOW_API_PASSWORD`.

        Raises:
            RequestError: one of them is missing.
        """
        if missing := [name for name in VARIABLES if not environment.get(name)]:
            raise RequestError(
                f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not set",
                where="the environment",
                expected="where Airflow's API is, and a user who may read DAGs and import errors",
                fix="set it in the environment; a password has no place in the arguments of a command",
            )
        url, user, password = (environment[name] for name in VARIABLES)
        return cls(url.rstrip("/"), user, password)

    def bundle_state(self, bundle: str) -> BundleState:
        """What is served of a bundle, and which of its files can't be imported.

        Raises:
            ServiceUnavailable: Airflow does not answer, or answers with a fault of its own.
            RequestError: Airflow does not take the user, or the question.
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
        """The rows of all pages of a list."""
        key, order = {"dags": ("dags", "dag_id"), "importErrors": ("import_errors", "id")}[name]
        rows, total = 0, 1
        while rows < total:
            page = self._get(f"/api/v2/{name}", limit=ROWS_PER_PAGE, offset=rows, order_by=order, **parameters)
            yield from page[key]
            # A page that is empty although there should be more: rows went away meanwhile.
            rows, total = rows + len(page[key]), page["total_entries"] if page[key] else 0

    def _get(self, path: str, **parameters: Any) -> Any:
        if "Authorization" not in self.session.headers:
            self._login()
        answer = self._ask("GET", path, params=parameters)
        if answer.status_code == UNAUTHORIZED:
            # A server that has started again may not know the token any more.
            self._login()
            answer = self._ask("GET", path, params=parameters)
        return self._content(answer)

    def _login(self) -> None:
        self.session.headers.pop("Authorization", None)
        answer = self._ask("POST", "/auth/token", json={"username": self.user, "password": self.password})
        self.session.headers["Authorization"] = f"Bearer {self._content(answer)['access_token']}"

    def _ask(self, method: str, path: str, **request: Any) -> requests.Response:
        try:
            return self.session.request(method, f"{self.url}{path}", timeout=ANSWER_SECONDS, **request)
        except (requests.ConnectionError, requests.Timeout) as exc:
            raise ServiceUnavailable("Airflow does not answer", where=self.url, got=type(exc).__name__) from exc
        except requests.RequestException as exc:
            raise RequestError(
                "this is no address of an API", where=self.url, got=type(exc).__name__, fix="set AIRFLOW_API_URL"
            ) from exc

    def _content(self, answer: requests.Response) -> Any:
        where = f"{answer.request.method} {self.url}{answer.request.path_url.partition('?')[0]}"
        got = f"{answer.status_code} {answer.reason}"
        if answer.status_code >= SERVER_ERROR:
            raise ServiceUnavailable("Airflow answers with a fault of its own", where=where, got=got)
        if answer.status_code in (UNAUTHORIZED, FORBIDDEN):
            raise RequestError(
                f"Airflow does not let the user {self.user!r} in",
                where=where,
                got=got,
                fix="set AIRFLOW_API_USER and AIRFLOW_API_PASSWORD to a user who may read DAGs and import errors",
            )
        try:
            answer.raise_for_status()
            return answer.json()
        except requests.RequestException as exc:
            raise RequestError(
                "this is not the API of an Airflow 3", where=where, got=got, fix="set AIRFLOW_API_URL"
            ) from exc
