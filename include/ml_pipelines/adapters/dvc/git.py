"""The few things that are asked of git, through its command, so that its credentials and settings count."""

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
from ml_pipelines.adapters.addresses import DeclaredAddress, redact_address, split_credentials
from ml_pipelines.adapters.files.download import did_you_mean
from ml_pipelines.errors import MissingExtra, PipelineError, ServiceUnavailable, SourceError, SourceNotFound

__all__ = ["GitRepo", "blob", "commit", "default_branch", "exists", "opened"]

_TIMEOUT_SECONDS = 600
# Variables by which a surrounding git, such as a hook, would point ours at its own repository.
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
        "the git server does not answer",
        "check the address, the network and that the server is up",
    ),
)


@dataclass(frozen=True, slots=True)
class GitRepo:
    """A repository on this machine.

    Attributes:
        address: address of the declaration.
        top: its top folder.
        prefix: what leads from there to the declared folder: empty, or ends with a slash.
    """

    address: DeclaredAddress
    top: Path
    prefix: str

    @property
    def name(self) -> str:
        """The repository as declared, without credentials; for messages."""
        return self.address.shown

    def path(self, declared: str) -> str:
        """A path as the declaration gives it, from the top folder.

        Raises:
            SourceNotFound: it leads out of the repository.
        """
        path = posixpath.normpath(posixpath.join(self.prefix, declared))
        if path.startswith(("../", "/")) or path in ("..", "."):
            fix = "give the path of a file as seen from the repository's folder"
            raise SourceNotFound("the path leads out of the repository", where=f"{self.name}:{declared}", fix=fix)
        return path


@contextmanager
def opened(address: DeclaredAddress) -> Iterator[GitRepo]:
    """A repository by folder or URL; its files are never touched. What is not a local work tree is cloned meanwhile.

    User and password in an `http(s)` URL reach git by its environment: arguments can be read by other processes, and
    a clone keeps its URL in a file. Credentials in any other address are an error.

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
    """Name and commit of what HEAD is in a repository by folder or URL; nothing is cloned from a URL.

    Raises:
        SourceNotFound: there is no such repository, or it is empty.
        SourceError: access is refused.
        ServiceUnavailable: the server does not answer in time.
    """
    if not _is_url(address.text):
        with opened(address) as there:
            return _git(there.top, address, "rev-parse", "--abbrev-ref", "HEAD")[0], commit(there, "HEAD")
    url, secrets = _separated(address)
    # These limits also end a transport whose caller has given up.
    limits = {"GIT_HTTP_LOW_SPEED_LIMIT": "1", "GIT_HTTP_LOW_SPEED_TIME": str(timeout_seconds)}
    command = ("ls-remote", "--symref", "--", url, "HEAD")
    lines = _git(Path(gettempdir()), address, *command, variables=secrets | limits, timeout_seconds=timeout_seconds)
    first = [line.partition("\t")[0] for line in lines]
    if not first:
        raise SourceNotFound("the git repository is empty", where=address.shown, fix="push a commit")
    # `ref: refs/heads/main`, if the server sends it, then the commit.
    return first[0].rpartition("refs/heads/")[2] if len(first) > 1 else "HEAD", first[-1]


def commit(repo: GitRepo, revision: str) -> str:
    """The full hash of the commit that a branch, tag or hash means.

    Raises:
        SourceNotFound: there is none; proposes branches and tags.
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
    """Whether git itself has a file or folder at a commit."""
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
        raise _misplaced(address, "remove the part from ? on; use a token as the password")
    url, user = split_credentials(address.text)
    if user is None:
        return address.text, {}
    before = int(os.environ.get("GIT_CONFIG_COUNT") or 0)
    return url, {
        "GIT_CONFIG_COUNT": str(before + 1),
        # For this server only, not for one that it sends us on to.
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
