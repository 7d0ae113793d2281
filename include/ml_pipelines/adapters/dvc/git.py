"""The git operations that a DVC source needs.

They run the command `git`, so the user's git credentials and settings apply.
"""

from __future__ import annotations

import base64
import os
import posixpath
import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from urllib.parse import urljoin

from ml_pipelines._utils.addresses import Address
from ml_pipelines.adapters.declared_address import DeclaredAddress, redact_address, split_credentials
from ml_pipelines.adapters.files.download import did_you_mean
from ml_pipelines.errors import MissingExtra, PipelineError, ServiceUnavailable, SourceError, SourceNotFound

__all__ = ["GitRepo", "blob", "commit", "default_branch", "exists", "opened"]

_TIMEOUT_SECONDS = 600
# Variables that git sets in a hook. With them, our git command would use the repository of the hook.
_FOREIGN = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_OBJECT_DIRECTORY", "GIT_COMMON_DIR")
_UNKNOWN = "correct `repo` in the declaration"
_FAULTS: tuple[tuple[str, type[PipelineError], str, str], ...] = (
    (
        "dubious ownership",
        SourceError,
        "git refuses to read the repository, because its folder belongs to another user",
        "run as the owner of the folder, or allow it: git config --global --add safe.directory {repo}",
    ),
    ("not a git repository", SourceNotFound, "it is not a git repository", _UNKNOWN),
    (
        "could not read (Username|Password)|[Aa]uthentication failed|Permission denied|returned error: 40[13]",
        SourceError,
        "the git server refuses access",
        "name a connection with a user and a token that may read the repository, or give the worker a credential helper"
        " or an SSH key",
    ),
    (
        "does not exist|does not appear to be a git repository|[Rr]epository.* not found|returned error: 404",
        SourceNotFound,
        "there is no such git repository",
        _UNKNOWN,
    ),
    (
        "Could not resolve|[Cc]onnect|timed out|too slow|hung up|early EOF|returned error: 5|RPC failed"
        "|read from remote",
        ServiceUnavailable,
        "the git server does not answer, or has an internal error",
        "check the address, the network and that the server is up",
    ),
)


@dataclass(frozen=True, slots=True)
class GitRepo:
    """A repository on this machine.

    Attributes:
        address: address of the declaration.
        top: top folder of the repository.
        prefix: path from the top folder to the declared folder; empty, or ends with a slash.
    """

    address: DeclaredAddress
    top: Path
    prefix: str

    @property
    def name(self) -> str:
        """The repository as declared, without credentials; for messages."""
        return self.address.shown

    def path(self, declared: str) -> str:
        """Convert a declared path to a path relative to the top folder.

        Raises:
            SourceNotFound: the path leads out of the repository.
        """
        path = posixpath.normpath(posixpath.join(self.prefix, declared))
        if path.startswith(("../", "/")) or path in ("..", "."):
            fix = "give the path of a file as seen from the repository's folder"
            raise SourceNotFound("the path leads out of the repository", where=f"{self.name}:{declared}", fix=fix)
        return path


@contextmanager
def opened(address: DeclaredAddress) -> Iterator[GitRepo]:
    """Open a repository by folder or URL, and change none of its files.

    A local work tree is used as it is. Everything else is cloned into a temporary folder, which is deleted afterwards.

    Git receives the user and the password of an `http(s)` URL as environment variables. Other processes can read
    arguments, and a clone stores its URL in a file. Credentials in any other address are an error.

    Raises:
        SourceNotFound: there is no such repository.
        SourceError: access is refused.
        ServiceUnavailable: the server does not answer.
    """
    repo, name = address.text, address.shown
    if not _is_url(repo):
        folder = Path(repo).absolute()
        if not folder.is_dir():
            fix = "correct `repo` in the declaration, or mount the folder where the task runs"
            raise SourceNotFound("there is no such folder", where=name, expected="a git repository", fix=fix)
        if _git(folder, address, "rev-parse", "--is-inside-work-tree") == ["true"]:
            top, prefix = _git(folder, address, "rev-parse", "--show-toplevel", "--show-prefix")
            yield GitRepo(address, top=Path(top), prefix=prefix)
            return
    with TemporaryDirectory(prefix="ml-pipelines-git-") as folder_name:
        folder = Path(folder_name)
        url, secrets = _separated(address)
        _git(folder, address, "clone", "--quiet", "--bare", "--", url, str(folder / ".git"), variables=secrets)
        _git(folder, address, "config", "core.bare", "false")
        yield GitRepo(address, top=folder, prefix="")


def default_branch(address: DeclaredAddress, *, timeout_seconds: int) -> tuple[str, str]:
    """Return the name of the default branch and its newest commit. A URL is queried without a clone.

    Raises:
        SourceNotFound: there is no such repository, or it is empty.
        SourceError: access is refused.
        ServiceUnavailable: the server does not answer in time.
    """
    if not _is_url(address.text):
        with opened(address) as there:
            return _git(there.top, address, "rev-parse", "--abbrev-ref", "HEAD")[0], commit(there, "HEAD")
    url, secrets = _separated(address)
    # With these limits, git's network process also ends after a timeout of this call.
    limits = {"GIT_HTTP_LOW_SPEED_LIMIT": "1", "GIT_HTTP_LOW_SPEED_TIME": str(timeout_seconds)}
    command = ("ls-remote", "--symref", "--", url, "HEAD")
    lines = _git(Path(gettempdir()), address, *command, variables=secrets | limits, timeout_seconds=timeout_seconds)
    first = [line.partition("\t")[0] for line in lines]
    if not first:
        raise SourceNotFound("the git repository is empty", where=address.shown, fix="push a commit")
    # `ref: refs/heads/main`, if the server sends it, then the commit.
    return first[0].rpartition("refs/heads/")[2] if len(first) > 1 else "HEAD", first[-1]


def commit(repo: GitRepo, revision: str) -> str:
    """Return the full hash of the commit that a branch, tag or hash names.

    Raises:
        SourceNotFound: there is no such commit; the message suggests branches and tags.
    """
    asked = _run(repo.top, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    if asked.returncode == 0:
        return asked.stdout.decode().strip()
    names = _git(repo.top, repo.address, "for-each-ref", "--format=%(refname:short)", "refs/heads", "refs/tags")
    there = ", ".join(names[:20]) or "no branch or tag"
    raise SourceNotFound(
        f"there is no revision {revision!r}",
        where=repo.name,
        expected="a branch, tag or commit of the repository",
        got=f"{there}, ..." if len(names) > 20 else there,
        fix=did_you_mean(revision, names, otherwise="push the commit or tag, or correct `rev` in the declaration"),
    )


def blob(repo: GitRepo, sha: str, path: str) -> bytes | None:
    """Return the content of a file at a commit, or None if the commit has no such file."""
    shown = _run(repo.top, "cat-file", "blob", f"{sha}:{path}")
    return shown.stdout if shown.returncode == 0 else None


def exists(repo: GitRepo, sha: str, path: str) -> bool:
    """Return whether git, and not DVC, tracks a file or folder at a commit."""
    return _run(repo.top, "cat-file", "-e", f"{sha}:{path}").returncode == 0


def _is_url(repo: str) -> bool:
    return "://" in repo or (re.match(r"[\w.-]+@?[\w.-]*:(?!\\)", repo) is not None and not Path(repo).exists())


def _separated(address: DeclaredAddress) -> tuple[str, dict[str, str]]:
    """Return the URL of a repository without user and password, and the variables by which git receives these.

    Raises:
        SourceError: git would receive the credentials as an argument, which other processes can read.
    """
    parts = Address.parse(address.text)
    if parts is None:
        if redact_address(address.text) != address.text:
            raise _misplaced(address, "ssh takes no password: write user@host:path, and give the worker an SSH key")
        return address.text, {}
    if parts.is_ambiguous:
        raise _misplaced(address, "in user and password, write special characters as %XX; in the path, %40 for @")
    if parts.scheme not in ("http", "https") and parts.password is not None:
        raise _misplaced(address, f"{parts.scheme} takes no password: remove it, and give the worker an SSH key")
    if "?" in parts.rest:
        what = "the address of a git repository can't have a query"
        raise SourceError(what, where=address.shown, fix="remove the part from ? on; use a token as the password")
    url, user = split_credentials(address.text)
    if user is None:
        return address.text, {}
    before = int(os.environ.get("GIT_CONFIG_COUNT") or 0)
    return url, {
        "GIT_CONFIG_COUNT": str(before + 1),
        # Only for this server, and not for one that it redirects to.
        f"GIT_CONFIG_KEY_{before}": f"http.{urljoin(url, '/')}.extraHeader",
        f"GIT_CONFIG_VALUE_{before}": f"Authorization: Basic {base64.b64encode(':'.join(user).encode()).decode()}",
    }


def _misplaced(address: DeclaredAddress, fix: str) -> SourceError:
    return SourceError("git can't receive the credentials in this address safely", where=address.shown, fix=fix)


def _git(
    folder: Path,
    address: DeclaredAddress,
    *arguments: str,
    variables: Mapping[str, str] | None = None,
    timeout_seconds: int = _TIMEOUT_SECONDS,
) -> list[str]:
    done = _run(folder, *arguments, variables=variables, timeout_seconds=timeout_seconds)
    if done.returncode:
        raise _fault(done.stderr.decode(errors="replace"), address)
    return done.stdout.decode().split("\n")[:-1]


def _run(
    folder: Path,
    *arguments: str,
    variables: Mapping[str, str] | None = None,
    timeout_seconds: int = _TIMEOUT_SECONDS,
) -> subprocess.CompletedProcess[bytes]:
    quiet = {"LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0", "GIT_OPTIONAL_LOCKS": "0", "GIT_ASKPASS": "true"}
    environment = {name: value for name, value in os.environ.items() if name not in _FOREIGN} | quiet
    environment.update(variables or {})
    environment.setdefault("GIT_SSH_COMMAND", "ssh -o BatchMode=yes")
    command = ["git", "-C", str(folder), *arguments]
    try:
        return subprocess.run(
            command,
            env=environment,
            capture_output=True,
            check=False,
            timeout=timeout_seconds,
            stdin=subprocess.DEVNULL,
        )
    except FileNotFoundError as exc:
        raise MissingExtra("git is not installed", fix="install git: DVC sources are read with it") from exc
    except subprocess.TimeoutExpired:
        raise ServiceUnavailable(
            f"git did not finish within {timeout_seconds} s",
            where=f"git {arguments[0]}",
            fix="check the network and the git server",
        ) from None


def _fault(stderr: str, address: DeclaredAddress) -> PipelineError:
    message, name = address.redact(" ".join(stderr.split())), address.shown
    for pattern, kind, what, fix in _FAULTS:
        if re.search(pattern, message):
            return kind(what, where=name, got=message, fix=fix.format(repo=name))
    return SourceError("git can't read the repository", where=name, got=message, fix=_UNKNOWN)
