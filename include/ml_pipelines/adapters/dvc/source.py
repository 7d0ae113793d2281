"""A file that DVC tracks in a git repository.

The version is read from git alone where the file has a `.dvc` file of its own, which takes milliseconds. Files of a
tracked folder and outputs of stages are asked of DVC. DVC is only ever given the repository at a commit, never its
work tree, and a cache folder of this call's own: so it takes no lock, and neither writes to the repository nor meets
another process.
"""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Any

import yaml

from ml_pipelines.adapters.dvc import git
from ml_pipelines.adapters.dvc.connection import DvcConnection
from ml_pipelines.adapters.files.download import (
    check_digest,
    check_suffix,
    copy_stream,
    did_you_mean,
    storage_error,
    storage_errors,
    unpack_table,
)
from ml_pipelines.contracts import DataPin
from ml_pipelines.errors import SourceNotFound, SourceUnreadable
from ml_pipelines.spec.sources import DvcSource

__all__ = ["DvcDataSource"]

# How DVC before 3.0 hashed: text with Unix line ends. Files that it added still carry such a hash.
_LEGACY = "md5-dos2unix"


@dataclass(frozen=True, slots=True)
class _Tracked:
    """One file at one commit. `digest` is `algorithm:value`; `storages` are (kind, files, path) to try in turn."""

    digest: str
    bytes: int | None
    storages: tuple[tuple[str, Any, str], ...] = ()


class DvcDataSource:
    """:class:`ml_pipelines.ports.DataSource` for a file in a DVC repository, local or at a git URL.

    Args:
        declared: the source.
        environment: what `${NAME}` in its `repo` stands for.
        connections: name -> what :meth:`DvcConnection.parsed` takes.
    """

    def __init__(
        self, declared: DvcSource, environment: Mapping[str, str], connections: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        self._declared, self._environment, self._connections = declared, environment, connections

    def pin(self) -> DataPin:
        """Return the commit of `rev`, and the digest of the file in it."""
        connection = self._connection()
        with git.opened(connection.address(self._declared, self._environment)) as repo:
            path = repo.path(self._declared.path)
            where = f"{repo.name}:{self._declared.path}"
            sha = git.commit(repo, self._declared.rev)
            if not (tracked := _from_dot_dvc(repo, sha, path)):
                with _tracked(repo, sha, path, connection) as tracked:
                    pass  # what is needed of it needs no open storage
        if tracked.digest.endswith(".dir"):
            raise SourceUnreadable(
                "DVC tracks a folder there", where=where, expected="one file", fix="name one file of the folder"
            )
        check_suffix(path, where=where)
        return DataPin(source="dvc", location=where, revision=sha, digest=tracked.digest, bytes=tracked.bytes)

    def fetch(self, pin: DataPin, directory: str) -> str:
        """Bring the file from the DVC cache or remote and check its digest."""
        connection = self._connection()
        with git.opened(connection.address(self._declared, self._environment)) as repo:
            sha = git.commit(repo, pin.revision or self._declared.rev)
            where = f"{pin.location} at {sha[:12]}"
            path = repo.path(self._declared.path)
            with _tracked(repo, sha, path, connection) as tracked, storage_errors(where, repo.address.redact):
                copy = _copy(tracked, self._declared.path, directory, where, hide=repo.address.redact)
        expected = pin.digest or tracked.digest
        check_digest(copy, got=_md5(str(copy), expected), expected=expected, where=where)
        with storage_errors(pin.location):
            return unpack_table(copy, where=pin.location)

    def _connection(self) -> DvcConnection:
        return DvcConnection.of(self._declared, self._connections)


def _from_dot_dvc(repo: git.GitRepo, sha: str, path: str) -> _Tracked | None:
    """Return the digest in `path.dvc`, or None if the file is missing or has other keys."""
    content = git.blob(repo, sha, f"{path}.dvc")
    try:
        document: Any = yaml.safe_load(content) if content else None
        (out,) = document["outs"]
        plain = "wdir" not in document and out["path"] == posixpath.basename(path) and isinstance(out["md5"], str)
    except (yaml.YAMLError, KeyError, TypeError, ValueError):
        return None
    return _Tracked(f"{out.get('hash', _LEGACY)}:{out['md5']}", out.get("size")) if plain else None


@contextmanager
def _tracked(repo: git.GitRepo, sha: str, path: str, connection: DvcConnection) -> Iterator[_Tracked]:
    """What DVC knows of a file at a commit, while its storages are open.

    Raises:
        SourceNotFound: the repository has no DVC there, or DVC does not track the path.
    """
    where = f"{repo.name}:{path} at {sha[:12]}"
    root = _dvc_root(repo, sha, path)
    key = tuple(posixpath.relpath(path, root or ".").split("/"))
    with storage_errors(where, repo.address.redact), _index(repo, sha, root, connection) as view:
        index = view.data["repo"]
        try:
            entry = index[key]
        except KeyError as exc:
            if any(out.index_key[1] == key[: len(out.index_key[1])] and not out.use_cache for out in view.outs):
                raise _not_stored(where) from None
            names = [posixpath.relpath(posixpath.join(root, name), repo.prefix or ".") for name in _names(view, key)]
            raise _not_tracked(repo, sha, path, names) from exc
        if not entry.hash_info:
            fix = "name one file; if it is the output of a stage, run the stage and commit dvc.lock"
            raise SourceUnreadable("DVC has no hash of the path", where=where, expected="one tracked file", fix=fix)
        size = entry.meta.size if entry.meta else None
        try:
            storages = tuple(_storages(index, entry))
        except KeyError:
            raise _not_stored(where) from None
        yield _Tracked(f"{entry.hash_info.name}:{entry.hash_info.value}", size, storages)


@contextmanager
def _index(repo: git.GitRepo, sha: str, root: str, connection: DvcConnection) -> Iterator[Any]:
    """DVC's index of a commit."""
    from dvc.exceptions import DvcException
    from dvc.fs import GitFileSystem
    from dvc.repo import Repo
    from dvc.scm import SCM
    from dvc_data.index import DataIndexDirError

    where = f"{repo.name} at {sha[:12]}"
    with TemporaryDirectory(prefix="ml-pipelines-dvc-") as scratch:
        try:
            with closing(SCM(str(repo.top))) as scm:
                files = GitFileSystem(scm=scm, rev=sha)
                with closing(Repo(f"/{root}", fs=files, scm=scm, config=_config(repo, root, scratch))) as dvc:
                    # The setting of that name gives way to an environment variable; this does not.
                    dvc.site_cache_dir = scratch
                    connection.apply(dvc.config)
                    yield dvc.index
        except DataIndexDirError as exc:
            missing = exc.__cause__ is None or isinstance(exc.__cause__, FileNotFoundError)
            error = None if missing else storage_error(exc.__cause__, where, repo.address.redact)
            raise error or _never_pushed("the listing of the folder", where) from None
        except DvcException as exc:
            raise SourceUnreadable(
                "DVC can't read the repository",
                where=where,
                got=repo.address.redact(str(exc)),
                fix="try it there with: dvc status",
            ) from None


def _config(repo: git.GitRepo, root: str, scratch: str) -> dict[str, Any]:
    """What DVC can't find out from a commit: the work tree's settings, as paths that hold, and where to cache."""
    from dvc.config import Config

    folder = repo.top / root / ".dvc"
    if not folder.is_dir():
        return {"cache": {"dir": f"{scratch}/cache"}}
    own = Config(str(folder))
    default = own["core"].get("remote")
    return {"remote": own["remote"], "cache": own["cache"], "core": {"remote": default} if default else {}}


def _dvc_root(repo: git.GitRepo, sha: str, path: str) -> str:
    """The nearest folder above a path that is a DVC repository, from the top folder; empty for that itself."""
    folder = path
    while folder:
        folder = posixpath.dirname(folder)
        if git.exists(repo, sha, posixpath.join(folder, ".dvc")):
            return folder
    raise SourceNotFound(
        "the git repository has no DVC in it",
        where=f"{repo.name} at {sha[:12]}",
        expected="a folder .dvc that is committed",
        fix="run dvc init there and commit, or correct `repo` or `rev` in the declaration",
    )


def _storages(index: Any, entry: Any) -> Iterator[tuple[str, Any, str]]:
    info = index.storage_map[entry.key]
    for kind in ("cache", "remote", "data"):
        if storage := getattr(info, kind):
            yield kind, *storage.get(entry)


def _copy(tracked: _Tracked, path: str, directory: str, where: str, *, hide: Callable[[str], str]) -> Path:
    from dvc.scm import SCMError

    for _, files, stored in tracked.storages:
        try:
            with files.open(stored, "rb") as stream:
                return copy_stream(stream, path, directory)
        except FileNotFoundError as exc:
            if error := storage_error(exc.__cause__, where, hide):
                raise error from None
        except SCMError as exc:
            raise _not_cloned(where, hide(str(exc))) from None
    remote = next(
        (files.unstrip_protocol(stored) for kind, files, stored in tracked.storages if kind == "remote"), None
    )
    if remote:
        raise _never_pushed("the file", where, got=f"nothing at {hide(remote)}")
    raise SourceNotFound(
        "the repository has no DVC remote to download from",
        where=where,
        fix="name one: dvc remote add --default NAME URL; commit .dvc/config, and dvc push",
    )


def _not_cloned(where: str, got: str) -> SourceNotFound:
    return SourceNotFound(
        "the git repository that the path was imported from can't be cloned",
        where=where,
        expected="an address in the .dvc file that this machine can reach; a relative one is lost in a clone",
        got=got,
        fix="import it again by an absolute address: dvc import --force URL PATH; then commit the .dvc file",
    )


def _not_stored(where: str) -> SourceNotFound:
    return SourceNotFound(
        "DVC stores no copy of the path, because its output has `cache: false`",
        where=where,
        expected="an output that DVC caches and pushes",
        fix="remove `cache: false` from dvc.yaml, run dvc repro and dvc push, and commit; or declare a file source",
    )


def _never_pushed(what: str, where: str, got: str = "") -> SourceNotFound:
    return SourceNotFound(
        f"the DVC remote does not have {what}",
        where=where,
        got=got,
        fix="it was never pushed or was garbage-collected: run dvc push where the data was added; a remote with a"
        " relative address is not found from a clone: give it an absolute one with dvc remote modify",
    )


def _names(view: Any, key: tuple[str, ...]) -> Iterator[str]:
    """Paths that DVC tracks: files, and folders as a whole but for the one that should have held the key."""
    for _, tracked in (out.index_key for out in view.outs):
        if key[: len(tracked)] == tracked:
            yield from ("/".join(inside) for inside, _ in view.data["repo"].iteritems(tracked) if inside != tracked)
        else:
            yield "/".join(tracked)


def _not_tracked(repo: git.GitRepo, sha: str, path: str, names: list[str]) -> SourceNotFound:
    shown = posixpath.relpath(path, repo.prefix or ".")
    where = f"{repo.name}:{shown} at {sha[:12]}"
    if path.endswith(".dvc"):
        fix = f"give the path of the data: {shown.removesuffix('.dvc')!r}"
        return SourceNotFound("the path is that of a .dvc file", where=where, fix=fix)
    if git.exists(repo, sha, path):
        fix = f"track it with DVC: git rm --cached {shown} && dvc add {shown}, or declare it as a file source"
        return SourceNotFound("the path is tracked by git, not by DVC", where=where, fix=fix)
    there = ", ".join(sorted(names)[:20]) or "nothing"
    fix = did_you_mean(shown, names, otherwise="dvc add the file and commit, or correct `path` or `rev`")
    return SourceNotFound("DVC does not track the path at this revision", where=where, got=there, fix=fix)


def _md5(path: str, digest: str) -> str:
    """The digest of a local file, by the same algorithm as another digest."""
    algorithm = digest.partition(":")[0]
    if algorithm == _LEGACY:
        from dvc_data.hashfile.hash import file_md5
        from dvc_objects.fs.local import localfs

        return f"{algorithm}:{file_md5(path, localfs, name=algorithm)}"
    with Path(path).open("rb") as file:
        return f"{algorithm}:{hashlib.file_digest(file, algorithm).hexdigest()}"
