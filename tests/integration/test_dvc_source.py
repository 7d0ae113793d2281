from __future__ import annotations

import hashlib
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ml_pipelines.adapters.dvc.source import DvcDataSource
from ml_pipelines.errors import PipelineError, ServiceUnavailable, SourceError, SourceNotFound, SourceUnreadable
from ml_pipelines.spec.sources import DvcSource

# pygtrie, below DVC, uses what it deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:_NoneStep.value:DeprecationWarning")

CUSTOMERS, LATER = b"customer_id,label\n1,0\n2,1\n", b"customer_id,label\n1,0\n2,1\n3,1\n"
PATH = "data/customers.csv"


def source(repo: object, path: str = PATH, rev: str = "HEAD", **environment: str) -> DvcDataSource:
    return DvcDataSource(DvcSource(repo=str(repo), path=path, rev=rev), environment)


def md5(content: bytes) -> str:
    return f"md5:{hashlib.md5(content, usedforsecurity=False).hexdigest()}"


def tree(folder: Path) -> dict[str, bytes | None]:
    return {str(path): path.read_bytes() if path.is_file() else None for path in sorted(folder.rglob("*"))}


def text_of(error: pytest.ExceptionInfo[PipelineError]) -> str:
    return str(error.value)


@pytest.fixture(scope="module")
def template(make_dvc_repo: Callable):
    repo = make_dvc_repo({PATH: CUSTOMERS}, tag="october")
    repo.commit({PATH: LATER}, tag="november")
    return repo


@pytest.fixture
def two_versions(template, tmp_path: Path):
    """The file at the tags october and november, the latter also main."""
    return template.copy(tmp_path)


def test_a_pin_is_commit_and_digest_and_downloads_nothing(two_versions, tmp_path: Path) -> None:
    shutil.rmtree(two_versions.remote)
    shutil.rmtree(two_versions.folder / ".dvc" / "cache")
    pin = source("${ML_DATA_REPO}", rev="october", ML_DATA_REPO=str(two_versions.folder)).pin()
    assert pin.model_dump() == {
        "source": "dvc",
        "location": "${ML_DATA_REPO}:" + PATH,
        "revision": two_versions.git("rev-parse", "october^{commit}"),
        "digest": md5(CUSTOMERS),
        "bytes": len(CUSTOMERS),
    }


def test_a_plain_pin_imports_nothing_heavy(two_versions) -> None:
    program = (
        "import sys\n"
        "from ml_pipelines.adapters.dvc.source import DvcDataSource\n"
        "from ml_pipelines.spec.sources import DvcSource\n"
        f"DvcDataSource(DvcSource(repo={str(two_versions.folder)!r}, path={PATH!r}), {{}}).pin()\n"
        "print(sorted({'dvc', 'polars', 'sqlalchemy'} & set(sys.modules)))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(("rev", "content"), [("october", CUSTOMERS), ("november", LATER), ("main", LATER)])
def test_exactly_the_pinned_version_is_fetched(two_versions, tmp_path: Path, rev: str, content: bytes) -> None:
    adapter = source(two_versions.folder, rev=rev)
    assert Path(adapter.fetch(adapter.pin(), str(tmp_path))).read_bytes() == content


def test_a_branch_that_moves_after_the_pin_does_not_matter(two_versions, tmp_path: Path) -> None:
    adapter = source(two_versions.folder, rev="main")
    pin = adapter.pin()
    two_versions.commit({PATH: b"customer_id,label\n9,9\n"})
    assert Path(adapter.fetch(pin, str(tmp_path))).read_bytes() == LATER


def test_the_repository_is_not_touched_and_nothing_is_printed(
    two_versions, tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    shutil.rmtree(two_versions.folder / ".dvc" / "cache")
    shutil.rmtree(two_versions.folder / ".dvc" / "tmp")
    (two_versions.folder / PATH).write_bytes(b"somebody is working here")
    before = tree(two_versions.folder)
    capfd.readouterr()
    caplog.clear()
    adapter = source(two_versions.folder)
    adapter.fetch(adapter.pin(), str(tmp_path))
    assert tree(two_versions.folder) == before
    assert capfd.readouterr() == ("", "")
    assert not caplog.records


def test_the_cache_serves_where_nothing_was_pushed(dvc_repo: Callable, tmp_path: Path) -> None:
    repo = dvc_repo({PATH: CUSTOMERS}, push=False)
    adapter = source(repo.folder)
    assert Path(adapter.fetch(adapter.pin(), str(tmp_path))).read_bytes() == CUSTOMERS


def test_files_of_a_tracked_folder(dvc_repo: Callable, tmp_path: Path) -> None:
    repo = dvc_repo({"data/a.csv": CUSTOMERS, "data/deep/b.csv": LATER}, tracked="data")
    shutil.rmtree(repo.folder / ".dvc" / "cache")
    adapter = source(repo.folder, "data/deep/b.csv")
    pin = adapter.pin()
    assert pin.digest == md5(LATER)
    assert Path(adapter.fetch(pin, str(tmp_path))).read_bytes() == LATER
    with pytest.raises(SourceUnreadable, match="DVC tracks a folder there") as error:
        source(repo.folder, "data").pin()
    assert "name one file of the folder" in text_of(error)
    with pytest.raises(SourceNotFound, match="DVC does not track the path") as error:
        source(repo.folder, "data/deep/c.csv").pin()
    assert "did you mean 'data/deep/b.csv'" in text_of(error)
    shutil.rmtree(repo.remote / "files")
    with pytest.raises(SourceNotFound, match="the DVC remote does not have the listing of the folder"):
        source(repo.folder, "data/a.csv").pin()


def test_outputs_of_a_stage(dvc_repo: Callable, tmp_path: Path) -> None:
    from dvc.repo import Repo

    stage = b"stages:\n  make:\n    cmd: printf 'a,label\\n1,0\\n' > made.csv\n    outs: [made.csv]\n"
    repo = dvc_repo()
    unmade = repo.commit_git({"features/dvc.yaml": stage})
    with Repo(str(repo.folder)) as dvc:
        dvc.reproduce(str(repo.folder / "features" / "dvc.yaml"))
        dvc.push()
    repo.commit_git()
    adapter = source(repo.folder, "features/made.csv")
    pin = adapter.pin()
    assert (pin.digest, pin.bytes) == (md5(b"a,label\n1,0\n"), 12)
    assert Path(adapter.fetch(pin, str(tmp_path))).read_bytes() == b"a,label\n1,0\n"
    with pytest.raises(SourceUnreadable, match="DVC has no hash of the path") as error:
        source(repo.folder, "features/made.csv", rev=unmade).pin()
    assert "run the stage and commit dvc.lock" in text_of(error)


@pytest.mark.parametrize("bare", [True, False])
def test_a_repository_at_a_url_or_without_files(two_versions, tmp_path: Path, bare: bool) -> None:
    served = tmp_path / "served.git"
    two_versions.git("clone", "--quiet", "--bare", str(two_versions.folder), str(served))
    adapter = source(served if bare else f"file://{served}", rev="october")
    pin = adapter.pin()
    assert pin.revision == two_versions.git("rev-parse", "october^{commit}")
    out = tmp_path / "out"
    out.mkdir()
    assert Path(adapter.fetch(pin, str(out))).read_bytes() == CUSTOMERS


def test_a_dvc_repository_below_the_top_of_git(dvc_repo: Callable, tmp_path: Path) -> None:
    from dvc.repo import Repo

    repo = dvc_repo()
    inner = repo.folder / "teams" / "churn"
    inner.mkdir(parents=True)
    Repo.init(str(inner), subdir=True).close()
    (inner / ".dvc" / "config").write_text(f"[core]\n  remote = r\n['remote \"r\"']\n  url = {repo.remote}\n")
    (inner / "a.csv").write_bytes(CUSTOMERS)
    with Repo(str(inner)) as dvc:
        dvc.add([str(inner / "a.csv")])
        dvc.push()
    repo.commit_git()
    for number, (folder, path) in enumerate([(inner, "a.csv"), (repo.folder, "teams/churn/a.csv")]):
        out = tmp_path / str(number)
        out.mkdir()
        adapter = source(folder, path)
        assert Path(adapter.fetch(adapter.pin(), str(out))).read_bytes() == CUSTOMERS


def test_a_hash_of_dvc_2_is_compared_as_dvc_2_made_it(dvc_repo: Callable, tmp_path: Path) -> None:
    repo = dvc_repo()
    unix = md5(CUSTOMERS).removeprefix("md5:")
    stored = repo.remote / unix[:2] / unix[2:]
    stored.parent.mkdir()
    stored.write_bytes(CUSTOMERS.replace(b"\n", b"\r\n"))
    repo.commit_git({"a.csv.dvc": f"outs:\n- md5: {unix}\n  size: 29\n  path: a.csv\n".encode()})
    adapter = source(repo.folder, "a.csv")
    pin = adapter.pin()
    assert pin.digest == f"md5-dos2unix:{unix}"
    assert b"\r\n" in Path(adapter.fetch(pin, str(tmp_path))).read_bytes()


def test_four_processes_fetch_at_once(two_versions, tmp_path: Path) -> None:
    shutil.rmtree(two_versions.folder / ".dvc" / "cache")
    program = (
        "import sys\n"
        "from ml_pipelines.adapters.dvc.source import DvcDataSource\n"
        "from ml_pipelines.spec.sources import DvcSource\n"
        f"adapter = DvcDataSource(DvcSource(repo={str(two_versions.folder)!r}, path={PATH!r}), {{}})\n"
        "pin = adapter.pin()\n"
        "input()\n"
        "for _ in range(2): adapter.fetch(pin, sys.argv[1])\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    workers = []
    for number in range(4):
        out = tmp_path / f"worker-{number}"
        out.mkdir()
        command = [sys.executable, "-c", program, str(out)]
        pipe = subprocess.PIPE
        workers.append(subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=environment))
    for worker in workers:
        assert worker.stdin
        worker.stdin.write("\n")
        worker.stdin.flush()
    ends = [(worker.communicate(timeout=120), worker.returncode) for worker in workers]
    assert [end for _, end in ends] == [0, 0, 0, 0], ends
    assert all((tmp_path / f"worker-{number}" / "customers.csv").read_bytes() == LATER for number in range(4))


def test_a_lock_that_somebody_holds_does_not_stop_a_fetch(two_versions, tmp_path: Path) -> None:
    from dvc.repo import Repo

    with Repo(str(two_versions.folder)) as dvc, dvc.lock:
        adapter = source(two_versions.folder)
        assert Path(adapter.fetch(adapter.pin(), str(tmp_path))).read_bytes() == LATER


def test_altered_bytes_are_refused(two_versions, tmp_path: Path) -> None:
    shutil.rmtree(two_versions.folder / ".dvc" / "cache")
    adapter = source(two_versions.folder)
    pin = adapter.pin()
    assert pin.digest
    stored = two_versions.remote / "files" / "md5" / pin.digest[4:6] / pin.digest[6:]
    stored.chmod(0o644)
    stored.write_bytes(CUSTOMERS)
    with pytest.raises(SourceUnreadable, match="the file has another digest than the data pin") as error:
        adapter.fetch(pin, str(tmp_path))
    assert f"expected: {pin.digest}" in text_of(error)
    assert "the stored file is damaged" in text_of(error)
    assert not (tmp_path / "customers.csv").exists()


def test_an_object_that_was_never_pushed(two_versions, tmp_path: Path) -> None:
    shutil.rmtree(two_versions.folder / ".dvc" / "cache")
    shutil.rmtree(two_versions.remote / "files")
    adapter = source(two_versions.folder)
    with pytest.raises(SourceNotFound, match="the DVC remote does not have the file") as error:
        adapter.fetch(adapter.pin(), str(tmp_path))
    assert "run dvc push where the data was added" in text_of(error)
    assert str(two_versions.remote) in text_of(error)


def test_no_remote(two_versions, tmp_path: Path) -> None:
    shutil.rmtree(two_versions.folder / ".dvc" / "cache")
    (two_versions.folder / ".dvc" / "config").write_text("")
    two_versions.commit_git()
    adapter = source(two_versions.folder)
    with pytest.raises(SourceNotFound, match="no DVC remote to download from") as error:
        adapter.fetch(adapter.pin(), str(tmp_path))
    assert "dvc remote add --default" in text_of(error)


# DVC leaves the sessions of failed requests to the garbage collector.
@pytest.mark.filterwarnings("ignore:.*(ClientSession|Connector):pytest.PytestUnraisableExceptionWarning")
@pytest.mark.usefixtures("garbage_collected")
@pytest.mark.parametrize("kind", ["http", "s3"])
def test_a_remote_that_does_not_answer(
    two_versions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    for name, value in {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_MAX_ATTEMPTS": "1"}.items():
        monkeypatch.setenv(name, value)
    shutil.rmtree(two_versions.folder / ".dvc" / "cache")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{closed.getsockname()[1]}"
        where = {"http": f"url = {address}/data", "s3": f"url = s3://data\n    endpointurl = {address}"}[kind]
        two_versions.use_remote(where)
        adapter = source(two_versions.folder)
        with pytest.raises(ServiceUnavailable, match="the storage does not answer") as error:
            adapter.fetch(adapter.pin(), str(tmp_path))
    assert "check the address, the network" in text_of(error)


@pytest.mark.parametrize(
    ("path", "rev", "what", "fix"),
    [
        (PATH, "novembre", "there is no revision 'novembre'", "did you mean 'november'"),
        (PATH, "--upload-pack=x", "there is no revision", "correct `rev` in the declaration"),
        ("data/costumers.csv", "HEAD", "DVC does not track the path", "did you mean 'data/customers.csv'"),
        (f"{PATH}.dvc", "HEAD", "the path is that of a .dvc file", "give the path of the data: 'data/customers.csv'"),
        ("notes.csv", "HEAD", "the path is tracked by git, not by DVC", "dvc add notes.csv"),
        ("../x.csv", "HEAD", "the path leads out of the repository", "as seen from the repository's folder"),
        ("data/x.txt", "HEAD", "the format of the file is not supported", "convert the file to CSV or Parquet"),
    ],
)
def test_what_is_not_there(two_versions, path: str, rev: str, what: str, fix: str) -> None:
    two_versions.commit_git({"notes.csv": b"a\n1\n"})
    two_versions.commit({"data/x.txt": b"x"})
    with pytest.raises(SourceError, match=what) as error:
        source(two_versions.folder, path, rev).pin()
    assert fix in text_of(error)


def test_no_repository(tmp_path: Path, dvc_repo: Callable) -> None:
    with pytest.raises(SourceNotFound, match="there is no such folder") as error:
        source(tmp_path / "nowhere").pin()
    assert "mount the folder where the task runs" in text_of(error)
    with pytest.raises(SourceNotFound, match="it is not a git repository"):
        source(tmp_path).pin()
    with pytest.raises(SourceNotFound, match="there is no such git repository"):
        source(f"file://{tmp_path}/nowhere").pin()
    repo = dvc_repo()
    shutil.rmtree(repo.folder / ".dvc")
    repo.commit_git()
    with pytest.raises(SourceNotFound, match="the git repository has no DVC in it") as error:
        source(repo.folder).pin()
    assert "run dvc init" in text_of(error)


def test_a_git_server_that_does_not_answer_and_no_password_in_the_message() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://user:hunter2@127.0.0.1:{closed.getsockname()[1]}/data.git"
        with pytest.raises(ServiceUnavailable, match="the git server does not answer") as error:
            source(url).pin()
    assert "hunter2" not in text_of(error)


def test_an_address_with_a_query() -> None:
    with pytest.raises(SourceError, match="the address of a git repository can't have a query") as error:
        source("https://git.example.org/data.git?token=hunter2").pin()
    assert "credentials" not in text_of(error)
    assert "hunter2" not in text_of(error)


def test_a_folder_of_another_user(two_versions, monkeypatch: pytest.MonkeyPatch) -> None:
    # What git itself offers to test this with.
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    with pytest.raises(SourceError, match="belongs to another user") as error:
        source(two_versions.folder).pin()
    assert f"git config --global --add safe.directory {two_versions.folder}" in text_of(error)


def test_a_variable_that_is_not_set() -> None:
    with pytest.raises(SourceNotFound, match="the environment variable ML_DATA_REPO is not set") as error:
        source("${ML_DATA_REPO}").pin()
    assert "where: data.dvc.repo" in text_of(error)
    assert "set ML_DATA_REPO where the task runs, or declare a default: ${ML_DATA_REPO:-...}" in text_of(error)


def test_an_output_without_a_cache_is_named(two_versions) -> None:
    folder = two_versions.folder
    (folder / "dvc.yaml").write_text(
        "stages:\n  make:\n    cmd: make\n    outs:\n    - a.csv: {cache: false}\n    - folder: {cache: false}\n"
    )
    (folder / "dvc.lock").write_text(
        "schema: '2.0'\nstages:\n  make:\n    cmd: make\n    outs:\n"
        "    - {path: a.csv, hash: md5, md5: d6149ccc7b4dda2515b0fcc32c56d3b3, size: 13}\n"
        "    - {path: folder, hash: md5, md5: 0d6149ccc7b4dda2515b0fcc32c56d3b.dir, size: 13, nfiles: 1}\n"
    )
    two_versions.git("add", "dvc.yaml", "dvc.lock")
    two_versions.git("commit", "-q", "-m", "stage")
    for path in ("a.csv", "folder/a.csv"):
        with pytest.raises(SourceNotFound, match="`cache: false`") as error:
            source(folder, path).pin()
        assert "dvc push" in error.value.fix


def test_an_import_from_a_registry_that_a_clone_can_not_reach(two_versions) -> None:
    folder = two_versions.folder
    (folder / "b.csv.dvc").write_text(
        "md5: d54b07b58e45296a42bf19d48cacde53\nfrozen: true\ndeps:\n- path: b.csv\n  repo:\n    url: ../nowhere\n"
        "    rev_lock: 7629f4db25270473256fc531cf2d78370e52205c\n"
        "outs:\n- md5: d6149ccc7b4dda2515b0fcc32c56d3b3\n  size: 13\n  hash: md5\n  path: b.csv\n"
    )
    two_versions.git("add", "b.csv.dvc")
    two_versions.git("commit", "-q", "-m", "import")
    adapter = source(folder, "b.csv")
    with pytest.raises(SourceNotFound, match="can't be cloned") as error:
        adapter.fetch(adapter.pin(), str(folder))
    assert "dvc import" in error.value.fix
