"""One process at a time in the folder of a run; its further ranks go in beside it."""

import errno
import fcntl
import multiprocessing
import os
import signal
import socket
import subprocess
import sys

import pytest

from tubelet.training import alone
from tubelet.training.alone import LOCK, Refused, alone_in

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no such locks")
HOLD = """
import sys, time
from pathlib import Path
from tubelet.training.alone import alone_in
with alone_in(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the folder `tmp_path`."""
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_folder_that_another_process_writes_is_refused_until_that_process_is_gone(holder, tmp_path):
    host = socket.gethostname()
    told = f"is being written by process {holder.pid} on host {host}"
    for _ in range(2):  # asking does not end it
        with pytest.raises(Refused, match=told), alone_in(tmp_path):
            pytest.fail("went in")
    assert [path.name for path in tmp_path.iterdir()] == [LOCK]
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with alone_in(tmp_path):
        assert (tmp_path / LOCK).read_text() == f"process {os.getpid()} on host {host}\n"


@pytest.mark.parametrize("variable", ["RANK", "LOCAL_RANK", "SLURM_PROCID", "NODE_RANK"])
def test_a_further_rank_of_the_same_run_goes_in(variable, holder, tmp_path, monkeypatch):
    monkeypatch.setenv(variable, "0")
    with pytest.raises(Refused), alone_in(tmp_path):
        pytest.fail("went in")
    monkeypatch.setenv(variable, "2")
    entered = False
    with alone_in(tmp_path):
        entered = True
    assert entered


def test_what_a_job_has_forked_to_load_does_not_hold_its_folder(tmp_path):
    """A loader's processes notice some seconds later that the one they load for was killed."""
    read, write = multiprocessing.Pipe(duplex=False)
    with alone_in(tmp_path):
        loader = multiprocessing.get_context("fork").Process(target=read.recv)
        loader.start()
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        other.kill()
    assert loader.is_alive()
    write.send(None)
    loader.join()


def test_a_disk_without_locks_is_told_and_used(tmp_path, monkeypatch, caplog):
    def lockf(file, flags):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(alone.fcntl, "lockf", lockf)
    with alone_in(tmp_path):
        assert f"{tmp_path / LOCK}: no locks on this disk" in caplog.text
    monkeypatch.setattr(fcntl, "lockf", lambda file, flags: os.stat(tmp_path / "absent"))
    with pytest.raises(FileNotFoundError), alone_in(tmp_path):
        pytest.fail("went in")
