"""`make demo` and `make ui`: run the sample pipeline through Airflow without a server.

All data is in one folder, the workspace: Airflow and MLflow on SQLite, the artifact store, and a git and DVC repository
with the sample data. Remove the folder to reset the demo.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import TextIO

from rich.console import Console

from ml_pipelines.errors import PipelineError, RequestError

__all__ = ["main"]

DELIVERIES = ("2026-10", "2026-11")
TRACKED = "data/raw/customers.csv"
PIPELINE = "ml_training_pipeline"
APPROVE = "ML_PIPELINES_APPROVE"  # repeated here, because an import of the tasks imports Airflow
# Variables of another Airflow in the shell must not affect the workspace.
UNSET_PREFIXES = ("AIRFLOW", "MLFLOW", "ML_PIPELINES")

out = Console(highlight=False)


def main() -> None:
    """Run the demo, or start the UI on its workspace."""
    parser = argparse.ArgumentParser(prog="demo", description=__doc__)
    parser.add_argument("--workspace", type=Path, default=Path(".workspace"))
    parser.add_argument("--dags", type=Path, default=Path("dags"))
    parser.add_argument("--data", default=None, help=f"add this delivery first: one of {', '.join(DELIVERIES)}")
    parser.add_argument("--approve", action="store_true", help="approve a held model")
    parser.add_argument("--ui", action="store_true", help="start Airflow with its UI")
    parser.add_argument("--only-data", action="store_true", help="create the data repository only")
    parser.add_argument("--port", type=int, default=8080, help="port of the UI on 127.0.0.1")
    arguments = parser.parse_args()
    try:
        workspace = Workspace(arguments.workspace.resolve(), arguments.dags.resolve())
        workspace.prepare_data(arguments.data)
        if arguments.only_data:
            sys.exit(0)
        workspace.prepare()
        code = workspace.serve(arguments.port) if arguments.ui else workspace.run(approve=arguments.approve)
    except PipelineError as error:
        out.print(str(error), style="red", markup=False)
        code = 1
    except KeyboardInterrupt:
        code = 130
    sys.exit(code)


class Workspace:
    """The folder of the demo."""

    def __init__(self, root: Path, dags: Path) -> None:
        self.root, self.dags = root, dags
        self.airflow_home, self.repo, self.remote = root / "airflow", root / "data-repo", root / "dvc-remote"
        self.store = f"file://{root}/store"
        self.tracking_uri = f"sqlite:///{root}/mlflow/mlflow.db"
        self.ledger = f"sqlite:///{root}/ledger.db"

    def environment(self, port: int = 8080) -> dict[str, str]:
        """Return the environment of Airflow and of the pipeline."""
        bundles = [
            {
                "name": "dags",
                "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle",
                "kwargs": {"path": str(self.dags)},
            }
        ]
        url = f"http://127.0.0.1:{port}"
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith(UNSET_PREFIXES)},
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
            "AIRFLOW_HOME": str(self.airflow_home),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "True",
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
            "AIRFLOW__CORE__EXECUTOR": "ml_pipelines_airflow.execution.warm_local_executor.WarmLocalExecutor",
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": str(port),
            "AIRFLOW__API__BASE_URL": url,
            "AIRFLOW__API__WORKERS": "1",
            # Port 8080 results in Airflow's defaults 8793 and 8794.
            "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(port + 713),
            "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(port + 714),
            "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps(bundles),
            "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.1",
            "AIRFLOW__ML_PIPELINES__STORE": self.store,
            "ML_PIPELINES_STORE": self.store,
            "ML_PIPELINES_LEDGER": self.ledger,
            "ML_PIPELINES_DATA_REPO": str(self.repo),
            "ML_PIPELINES_SAMPLE_DATA": str(_sample_data()),
            "MLFLOW_TRACKING_URI": self.tracking_uri,
        }

    def prepare_data(self, delivery: str | None) -> None:
        """Create the data repository if it does not exist, and add a delivery.

        Raises:
            RequestError: the delivery does not exist.
        """
        if delivery is not None and delivery not in DELIVERIES:
            raise RequestError(
                f"the delivery {delivery!r} does not exist",
                expected=f"one of {', '.join(DELIVERIES)}",
                got=delivery,
                fix=f"make demo DATA={DELIVERIES[-1]}",
            )
        if not self.repo.exists():
            with _report_duration("git + DVC repository"):
                self._make_repository()
        if delivery is not None or not self._git("tag", "--list"):
            self._deliver(delivery or DELIVERIES[0])

    def prepare(self) -> None:
        """Create the folders and Airflow's database if they do not exist."""
        for folder in (self.airflow_home, self.root / "mlflow", self.root / "store", self.root / "logs"):
            folder.mkdir(parents=True, exist_ok=True)
        if not (self.airflow_home / ".migrated").exists():
            with _report_duration("Airflow's database"):
                self._call("airflow", "db", "migrate")
            (self.airflow_home / ".migrated").touch()

    def run(self, *, approve: bool = False) -> int:
        """Run the DAG once through Airflow and print progress and the decision card. Returns an exit code."""
        from ml_pipelines.runner.run_summary import run_card
        from ml_pipelines.services.connected import ConnectedServices
        from ml_pipelines.services.settings import Settings

        started = datetime.now(UTC)
        log = self.root / "logs" / f"{started:%Y%m%dT%H%M%S}.log"
        out.print(f"airflow dags test {PIPELINE}   (full log: {_short(log)})", soft_wrap=True)
        code = 0
        with log.open("w") as sink:
            process = subprocess.Popen(
                ["airflow", "dags", "test", PIPELINE, started.isoformat()],  # noqa: S607  from the PATH of the environment
                env=self.environment() | ({APPROVE: "yes"} if approve else {}),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            assert process.stdout is not None
            run_id = _follow(process.stdout, sink)
            code = process.wait()
        if code or run_id is None:
            out.print(f"[red]the run failed[/]; the end of {_short(log)}:")
            out.print("".join(log.read_text().splitlines(keepends=True)[-30:]), markup=False)
            return code or 1
        ledger = ConnectedServices(Settings.from_environment(self.environment())).ledger
        outcome, _ = run_card(self.store, ledger, PIPELINE, run_id)
        out.print(run_card(self.store, ledger, PIPELINE, run_id, where_next=self._where_next(outcome))[1])
        return 0

    def serve(self, port: int) -> int:
        """Run `airflow standalone` until it is stopped. Returns its exit code."""
        passwords = self.airflow_home / "simple_auth_manager_passwords.json.generated"
        # A shell ignores Ctrl-C for background processes.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        # In its own session, so that Ctrl-C reaches only this process, which stops all others.
        process = subprocess.Popen(
            ["airflow", "standalone"],  # noqa: S607  by PATH
            env=self.environment(port),
            start_new_session=True,
        )
        try:
            _wait_for(f"http://127.0.0.1:{port}/api/v2/version", process)
            password = json.loads(passwords.read_text())["admin"]
            out.print(f"\n[bold]Airflow is up:[/] http://127.0.0.1:{port}   user admin   password {password}")
            out.print(f"Unpause and trigger {PIPELINE} there. Stop with Ctrl-C.\n")
            return process.wait()
        except KeyboardInterrupt:
            return 0
        finally:
            _stop(process)

    def _make_repository(self) -> None:
        # Renamed when complete, so that an interrupted creation starts again.
        unfinished = self.root / "data-repo.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        call = partial(self._call, cwd=unfinished)
        call("git", "init", "--quiet", "--initial-branch=main")
        call("git", "config", "user.name", "ML Pipelines demo")
        call("git", "config", "user.email", "demo@localhost")
        call("dvc", "init", "--quiet")
        call("dvc", "remote", "add", "--default", "--force", "storage", str(self.remote))
        call("dvc", "config", "core.analytics", "false")
        unfinished.rename(self.repo)

    def _deliver(self, delivery: str) -> None:
        tags = self._git("tag", "--list").split()
        if delivery in tags:
            out.print(f"  data delivery {delivery} already exists")
            return
        with _report_duration(f"data delivery {delivery}: dvc add, git commit, dvc push"):
            target = self.repo / TRACKED
            target.parent.mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)  # DVC can have linked the file to its cache.
            shutil.copyfile(_sample_data() / f"customers-{delivery}.csv", target)
            self._call("dvc", "add", "--quiet", TRACKED, cwd=self.repo)
            self._git("add", "--all")
            self._git("commit", "--quiet", "--allow-empty", "--message", f"Customers of {delivery}")
            self._call("dvc", "push", "--quiet", cwd=self.repo)
            self._git("tag", delivery)

    def _git(self, *arguments: str) -> str:
        return self._call("git", *arguments, cwd=self.repo)

    def _call(self, *command: str, cwd: Path | None = None) -> str:
        environment = {**self.environment(), "DVC_NO_ANALYTICS": "1", "GIT_CONFIG_GLOBAL": os.devnull}
        process = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
        if process.returncode:
            raise RequestError(
                f"`{' '.join(command)}` failed",
                where=str(cwd or self.root),
                got=(process.stderr or process.stdout).strip()[-2000:],
                fix="fix the reported problem; `make clean` removes the workspace",
            )
        return process.stdout

    def _where_next(self, outcome: str) -> list[tuple[str, str]]:
        approve = [("approve it", "make demo APPROVE=1   (run again and approve)")] if outcome == "held" else []
        return [
            *approve,
            ("again", "make demo   (unchanged data, so nothing is computed)"),
            ("next month", f"make demo DATA={DELIVERIES[1]}"),
            ("Airflow's UI", "make ui"),
            ("MLflow's UI", f".venv/bin/mlflow ui --backend-store-uri {_short(self.tracking_uri)}"),
            ("your own model", "copy the two files in dags/ and edit the YAML"),
        ]


@contextmanager
def _report_duration(action: str) -> Iterator[None]:
    """Print an action and its duration."""
    started = time.monotonic()
    yield
    out.print(f"  {action:<60} {time.monotonic() - started:6.1f} s")


def _follow(lines: Iterable[str], sink: TextIO) -> str | None:
    """Copy Airflow's output to a file, print each finished or failed step, and return the run id."""
    run_id, task = None, ""
    for line in lines:
        sink.write(line)
        if match := re.search(r"\[DAG TEST\] starting task_id=(\S+)", line):
            task = match[1]
        elif "new_state=up_for_retry" in line:
            out.print(f"  {task:<40} failed; retry after the declared retry_delay, see the log")
        if match := re.search(
            r"ml_pipelines step (\S+) done: (cached|computed|published) in ([\d.]+) s, run (\S+)", line
        ):
            label, how, seconds, run_id = match.groups()
            out.print(f"  {label:<40} {how:<9} {float(seconds):6.1f} s", markup=False)
    return run_id


def _wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    import urllib.error
    import urllib.request

    while process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):  # noqa: S310  loopback address
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Stop a session leader and its children; `airflow standalone` alone can wait indefinitely for some of them."""
    for number, seconds in ((signal.SIGTERM, 15.0), (signal.SIGKILL, 5.0)):
        end = time.monotonic() + seconds
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
            while time.monotonic() < end:
                process.poll()  # A process stays until its parent has waited for it.
                os.killpg(process.pid, 0)
                time.sleep(0.1)


def _short(path: Path | str) -> str:
    return str(path).replace(f"{Path.cwd()}/", "")


def _sample_data() -> Path:
    return Path(str(files("ml_pipelines") / "sample_data"))


if __name__ == "__main__":
    main()
