"""The run directory: atomic, honest about what changed, the same on a disk and on S3."""

import os
import pickle
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from moto.server import ThreadedMotoServer

from codelm.errors import UserError
from codelm.object_store import PatientS3
from codelm.run_dir import Manifest, RunDir, digest_of, flatten

MADE = Manifest("corpus", {"corpus": {"shards": 2}}, {"source": "abc"})


@pytest.fixture(scope="module")
def s3_uri() -> Iterator[str]:
    """A bucket on a local S3 server."""
    import boto3

    server = ThreadedMotoServer(port=0)
    server.start()
    host, port = server.get_host_and_port()
    keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_EC2_METADATA_DISABLED": "true"}
    with pytest.MonkeyPatch.context() as patch:
        for key, value in keys.items():
            patch.setenv(key, value)
        boto3.client("s3", endpoint_url=f"http://{host}:{port}", region_name="us-east-1").create_bucket(Bucket="runs")
        yield f"s3://runs/exp?scheme=http&endpoint_override={host}:{port}&region=us-east-1"
    server.stop()


@pytest.fixture(params=["local", "s3"])
def run_dir(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunDir:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    if request.param == "local":
        return RunDir(str(tmp_path / "run"))
    base, _, query = request.getfixturevalue("s3_uri").partition("?")
    return RunDir(f"{base}/{tmp_path.name}?{query}")


def write(run_dir: RunDir, path: str, text: str) -> None:
    with run_dir.fs.open_output_stream(path) as out:
        out.write(text.encode())


def test_nothing_is_visible_before_publishing(run_dir: RunDir) -> None:
    workspace = run_dir.workspace("corpus")
    write(run_dir, f"{workspace}/a.txt", "half")
    assert run_dir.manifest("corpus") is None
    with pytest.raises(FileNotFoundError):
        run_dir.local_copy("corpus")


def test_publish_then_read(run_dir: RunDir) -> None:
    workspace = run_dir.clear_workspace("corpus")
    run_dir.fs.create_dir(f"{workspace}/data")
    write(run_dir, f"{workspace}/data/a.txt", "abc")
    published = run_dir.publish("corpus", MADE)
    # SHA-256 of "abc", FIPS 180-2 appendix B.1.
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert published.files == {"data/a.txt": expected}
    assert run_dir.manifest("corpus") == published
    assert (run_dir.local_copy("corpus") / "data" / "a.txt").read_text() == "abc"


def test_withdraw_and_make_again(run_dir: RunDir) -> None:
    write(run_dir, f"{run_dir.clear_workspace('corpus')}/a.txt", "one")
    first = run_dir.publish("corpus", MADE)
    run_dir.withdraw("corpus")
    assert run_dir.manifest("corpus") is None
    write(run_dir, f"{run_dir.clear_workspace('corpus')}/b.txt", "two")
    second = run_dir.publish("corpus", MADE)
    assert set(second.files) == {"b.txt"}
    assert second.content != first.content
    assert second.fingerprint == first.fingerprint


def test_withdraw_of_nothing_is_nothing(run_dir: RunDir) -> None:
    run_dir.withdraw("corpus")
    assert run_dir.manifest("corpus") is None


def test_notes(run_dir: RunDir) -> None:
    assert run_dir.read_note("pretrain") is None
    run_dir.write_note("pretrain", {"fingerprint": "f"})
    assert run_dir.read_note("pretrain") == {"fingerprint": "f"}


def test_writable(run_dir: RunDir) -> None:
    run_dir.check_writable()


def test_a_remote_copy_is_fetched_once(s3_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    base, _, query = s3_uri.partition("?")
    run_dir = RunDir(f"{base}/once?{query}")
    write(run_dir, f"{run_dir.workspace('corpus')}/a.txt", "abc")
    run_dir.publish("corpus", MADE)
    first = run_dir.local_copy("corpus")
    (first / "a.txt").write_text("marked")
    assert (run_dir.local_copy("corpus") / "a.txt").read_text() == "marked"


def test_unwritable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written to"):
        RunDir(str(tmp_path / "file" / "run")).check_writable()


def test_unknown_scheme() -> None:
    with pytest.raises(UserError, match=r"cannot use 'ftp9://x/y'"):
        RunDir("ftp9://x/y")


def test_differences_name_key_and_values() -> None:
    wanted = Manifest("corpus", {"corpus": {"shards": 3, "extra": 1}}, {"source": "xyz"})
    assert MADE.differences(wanted) == [
        "corpus.extra: None there, 1 asked for",
        "corpus.shards: 2 there, 3 asked for",
        "its input `source` is not the one it was made from",
    ]
    assert MADE.differences(MADE) == []


def test_second_driver_is_kept_out(tmp_path: Path) -> None:
    run_dir = RunDir(str(tmp_path))
    program = f"from codelm.run_dir import RunDir\nwith RunDir({str(tmp_path)!r}).lock(): print('in')"
    with run_dir.lock():
        refused = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "another codelm is at work" in refused.stderr
    admitted = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert admitted.stdout == "in\n"


def test_killed_while_publishing_leaves_no_half_manifest(tmp_path: Path) -> None:
    """The manifest is renamed into place: a partial one has another name and is not read."""
    run_dir = RunDir(str(tmp_path))
    workspace = run_dir.workspace("corpus")
    write(run_dir, f"{workspace}/manifest.json.partial", '{"stage": "cor')
    os.rename(workspace, tmp_path / "corpus")
    assert run_dir.manifest("corpus") is None


def test_digest_ignores_key_order() -> None:
    assert digest_of({"a": 1, "b": [2, 3]}) == digest_of({"b": [2, 3], "a": 1})
    assert digest_of({"a": 1}) != digest_of({"a": 2})


def test_flatten() -> None:
    assert flatten({"a": {"b": 1, "c": {"d": 2}}, "e": 3}) == {"a.b": 1, "a.c.d": 2, "e": 3}


def test_storage_that_refuses_is_waited_for_here_and_where_it_is_sent_to(s3_uri: str) -> None:
    """Arrow forgets how patient a file system is when it is pickled, as on the way to each worker."""
    run_dir = RunDir(s3_uri)
    assert isinstance(run_dir.fs, PatientS3)
    assert isinstance(pickle.loads(pickle.dumps(run_dir.fs)), PatientS3)
    assert pickle.loads(pickle.dumps(run_dir.fs)).region == run_dir.fs.region == "us-east-1"


def test_a_first_look_at_storage_that_is_not_there_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "none")
    began = time.monotonic()
    with pytest.raises(UserError, match="its storage does not answer"):
        RunDir("s3://runs/exp?scheme=http&endpoint_override=127.0.0.1:9&region=us-east-1").check_answers()
    assert time.monotonic() - began < 10  # 51 s with the patience of what follows
