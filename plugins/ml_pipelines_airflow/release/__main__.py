"""`python -m ml_pipelines_airflow.release`: check DAGs, describe a release, deploy it, verify it.

Airflow's address and user come from AIRFLOW_API_URL, AIRFLOW_API_USER and AIRFLOW_API_PASSWORD, Slack's webhook, if
there is one, from SLACK_WEBHOOK_URL.

Exit codes: 0 done, 1 not: the DAGs are wrong, or the release is not served, 2 wrong use of the command.
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

STACK, LAID_OVER = "docker-compose.airflow.yml", "include/docker/release.yml"
UP = ("up", "--detach", "--no-build", "--wait")

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

ReleaseFile = Annotated[Path, typer.Option("--release", help="The file that `dags --release` has written.")]
Bundle = Annotated[str, typer.Option(help="Name of the DAG bundle in Airflow.")]
Seconds = Annotated[float, typer.Option("--seconds", min=0, help="How long Airflow may take.")]


def main() -> None:
    """Run the command line; an error of ours is told in a few lines, never as a traceback."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        app()
    except PipelineError as error:
        err.print(f"[bold red]{type(error).__name__}[/]: ", end="")
        err.print(str(error), markup=False, soft_wrap=True)
        sys.exit(1)


@app.command()
def dags(
    package: Annotated[str, typer.Option(help="The installed package that the DAGs are in.")] = "ml_pipelines_airflow",
    folder: Annotated[str, typer.Option(help="The folder of the DAG files in it.")] = "dags",
    release: Annotated[Path | None, typer.Option(help="Write to this file what a release of them offers.")] = None,
) -> None:
    """Parse every DAG in a process of its own: nothing may be wrong, and nothing heavy loaded."""
    from ml_pipelines_airflow.bundles.installed import package_files, package_version
    from ml_pipelines_airflow.release.dag_check import build_release, dag_table, parse

    content = package_files(package, folder)
    found = parse(content.source if content.below.endswith(f"/{folder}") else content.source / folder)
    out.print(dag_table(found))
    _show_faults([DagImportError(file, "", text) for file, text in found.faults.items()])
    if found.heavy:
        err.print(f"\nparsing loads {', '.join(found.heavy)}: import that in the tasks", markup=False)
    if not found.right:
        raise typer.Exit(1)
    if release is not None:
        release.parent.mkdir(parents=True, exist_ok=True)
        release.write_text(build_release(found, package_version(content)[0]).model_dump_json() + "\n")
        out.print(f"\n{release}", markup=False)


@app.command("verify")
def verify_release(release: ReleaseFile, bundle: Bundle = "ml-pipelines", seconds: Seconds = 600) -> None:
    """Wait until a running Airflow serves a release."""
    verdict = verify(AirflowApi.from_environment(os.environ), bundle, read_release(release), seconds=seconds, told=_say)
    _say(verdict.reason)
    _show_faults(verdict.faults)
    if not verdict.served:
        raise typer.Exit(1)


@app.command()
def deploy(
    pins: Annotated[list[str], typer.Argument(help="NAME=VALUE: variables that name what is deployed.")],
    release: ReleaseFile,
    env_file: Annotated[Path, typer.Option(help="The file that keeps these variables for the stack.")] = Path(".env"),
    command: Annotated[
        str, typer.Option(help="Brings into force what the file says; the Compose stack is started with it by default.")
    ] = "",
    bundle: Bundle = "ml-pipelines",
    seconds: Seconds = 900,
) -> None:
    """Deploy a release and verify it; bring back what was there before if it is not served."""
    described = read_release(release)
    api = AirflowApi.from_environment(os.environ)
    start = tuple(shlex.split(command)) or _compose(env_file)
    target = DeploymentTarget(api=api, bundle=bundle, env_file=env_file, command=start, seconds=seconds)
    done = deploy_release(target, described, dict(map(_pin, pins)), _say)
    story = summary(described, done)
    out.print(f"\n{story}", markup=False, soft_wrap=True)
    if step_summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        with Path(step_summary).open("a") as file:
            file.write(story)
    if webhook := os.environ.get("SLACK_WEBHOOK_URL"):
        post_to_slack(webhook, slack_message(done, workflow_run_url(os.environ)))
    if done.outcome != "deployed":
        raise typer.Exit(1)


def _compose(env_file: Path) -> tuple[str, ...]:
    """Start the stack of `make up`, of which Compose's own COMPOSE_FILE may name other files, with a release."""
    files = [*(os.environ.get("COMPOSE_FILE") or STACK).split(os.pathsep), LAID_OVER]
    named = (part for file in files for part in ("--file", file))
    return ("docker", "compose", *named, "--env-file", str(env_file), *UP)


def _pin(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name.isidentifier() and equals and value) or any(each.isspace() for each in value):
        raise typer.BadParameter(f"expected NAME=VALUE, got {text!r}")
    return name, value


def _say(line: str) -> None:
    out.print(line, markup=False, soft_wrap=True)


def _show_faults(faults: Iterable[DagImportError]) -> None:
    for fault in faults:
        err.print(f"\n{fault.file}:\n{fault.text.strip()}", markup=False, soft_wrap=True)


if __name__ == "__main__":
    main()
