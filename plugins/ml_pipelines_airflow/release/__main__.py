"""`python -m ml_pipelines_airflow.release`: check DAGs, describe a release, deploy it, verify it.

The environment variables AIRFLOW_API_URL, AIRFLOW_API_USER and AIRFLOW_API_PASSWORD configure Airflow's API. The
optional SLACK_WEBHOOK_URL receives the result of a deployment.

Exit codes: 0 success, 1 invalid DAGs or a release that is not served, 2 wrong usage.
"""

from __future__ import annotations

import logging
import os
import shlex
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from ml_pipelines.errors import PipelineError
from ml_pipelines_airflow.release.airflow_client import AirflowApi, DagImportError
from ml_pipelines_airflow.release.rollout import DeploymentTarget, deploy_release
from ml_pipelines_airflow.release.summary import post_to_slack, slack_message, summary, workflow_run_url
from ml_pipelines_airflow.release.verify import read_release, verify

__all__ = ["app", "main"]

STACK_FILE, RELEASE_FILE = "docker-compose.airflow.yml", "include/docker/release.yml"
UP = ("up", "--detach", "--no-build", "--wait")

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

ReleaseFile = Annotated[Path, typer.Option("--release", help="Release file, written by `dags --release`.")]
Bundle = Annotated[str, typer.Option(help="Name of the DAG bundle in Airflow.")]
Seconds = Annotated[float, typer.Option("--seconds", min=0, help="Time limit for Airflow.")]


def main() -> None:
    """Run the command line. A `PipelineError` is printed without a traceback."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        app()
    except PipelineError as error:
        err.print(f"[bold red]{type(error).__name__}[/]: ", end="")
        err.print(str(error), markup=False, soft_wrap=True)
        sys.exit(1)


@app.command()
def dags(
    package: Annotated[str, typer.Option(help="Installed package with the DAGs.")] = "ml_pipelines_airflow",
    folder: Annotated[str, typer.Option(help="Folder of the DAG files in the package.")] = "dags",
    release: Annotated[Path | None, typer.Option(help="Write the description of the release to this file.")] = None,
) -> None:
    """Parse all DAGs in a new process; fail on errors and on heavy imports."""
    from ml_pipelines_airflow.bundles.installed import package_files, package_version
    from ml_pipelines_airflow.release.dag_check import build_release, check_dags, dag_table

    content = package_files(package, folder)
    report = check_dags(content.source if content.prefix.endswith(f"/{folder}") else content.source / folder)
    out.print(dag_table(report))
    _show_faults([DagImportError(file, "", text) for file, text in report.faults.items()])
    if report.heavy:
        err.print(f"\nparsing imports {', '.join(report.heavy)}: import them in the tasks", markup=False)
    if not report.passed:
        raise typer.Exit(1)
    if release is not None:
        release.parent.mkdir(parents=True, exist_ok=True)
        release.write_text(build_release(report, package_version(content)[0]).model_dump_json() + "\n")
        out.print(f"\n{release}", markup=False)


@app.command("verify")
def verify_release(release: ReleaseFile, bundle: Bundle = "ml-pipelines", seconds: Seconds = 600) -> None:
    """Wait until a running Airflow serves a release."""
    verdict = verify(
        AirflowApi.from_environment(os.environ), bundle, read_release(release), seconds=seconds, report=_print
    )
    _print(verdict.reason)
    _show_faults(verdict.faults)
    if not verdict.served:
        raise typer.Exit(1)


@app.command()
def deploy(
    pins: Annotated[list[str], typer.Argument(help="NAME=VALUE: variables that name the deployed images.")],
    release: ReleaseFile,
    env_file: Annotated[Path, typer.Option(help="Environment file of the stack that stores these variables.")] = Path(
        ".env"
    ),
    command: Annotated[
        str, typer.Option(help="Command that applies the environment file; default: start the Compose stack.")
    ] = "",
    bundle: Bundle = "ml-pipelines",
    seconds: Seconds = 900,
) -> None:
    """Deploy a release and verify it; restore the previous release if it is not served."""
    described = read_release(release)
    api = AirflowApi.from_environment(os.environ)
    start = tuple(shlex.split(command)) or _compose(env_file)
    target = DeploymentTarget(api=api, bundle=bundle, env_file=env_file, command=start, seconds=seconds)
    result = deploy_release(target, described, dict(map(_pin, pins)), _print)
    text = summary(described, result)
    out.print(f"\n{text}", markup=False, soft_wrap=True)
    if step_summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        with Path(step_summary).open("a") as file:
            file.write(text)
    if webhook := os.environ.get("SLACK_WEBHOOK_URL"):
        post_to_slack(webhook, slack_message(result, workflow_run_url(os.environ)))
    if result.outcome != "deployed":
        raise typer.Exit(1)


def _compose(env_file: Path) -> tuple[str, ...]:
    """Return the command that starts the stack with a release. COMPOSE_FILE can name the files of the stack."""
    files = [*(os.environ.get("COMPOSE_FILE") or STACK_FILE).split(os.pathsep), RELEASE_FILE]
    options = (part for file in files for part in ("--file", file))
    return ("docker", "compose", *options, "--env-file", str(env_file), *UP)


def _pin(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name.isidentifier() and equals and value) or any(character.isspace() for character in value):
        raise typer.BadParameter(f"expected NAME=VALUE, got {text!r}")
    return name, value


def _print(line: str) -> None:
    out.print(line, markup=False, soft_wrap=True)


def _show_faults(faults: Iterable[DagImportError]) -> None:
    for fault in faults:
        err.print(f"\n{fault.file}:\n{fault.text.strip()}", markup=False, soft_wrap=True)


if __name__ == "__main__":
    main()
