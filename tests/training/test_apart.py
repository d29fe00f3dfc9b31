"""A job in a process of its own: what it gives, how it ends, and that it is gone when its sweep is."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from tubelet.training.apart import Reported, run_apart

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a job is run in the process of its sweep"),
    pytest.mark.timeout(60),
]
REPORTED = Reported("sweep/0")
SWEEP = """
import os, signal, sys, time
from pathlib import Path
from tubelet.training.apart import Reported, interrupt, run_apart

folder = Path(sys.argv[1])
signal.signal(signal.SIGTERM, interrupt)

def job():
    (folder / "pid").write_text(str(os.getpid()))
    try:
        print("working", flush=True)
        time.sleep(60)
    except KeyboardInterrupt as interrupted:
        with open(folder / "ended", "a") as file:
            file.write(f"{interrupted.args[0]} ")
        time.sleep(2.5)  # to save
        with open(folder / "ended", "a") as file:
            file.write("saved ")
        raise

run_apart(job, folder / "train.log", {}, Reported(""))
"""


def apart(job, folder):
    return run_apart(job, folder / "train.log", {"name": "a"}, REPORTED)


def record_of(folder):
    return json.loads((folder / "metrics.json").read_text())


def test_a_job_gives_what_it_returns(tmp_path):
    assert apart(lambda: 0.375, tmp_path) == 0.375
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("end", "error"),
    [
        (lambda: os._exit(3), "ended with code 3 and no word"),
        (lambda: sys.exit(0), "ended with code 0 and no word"),
        (lambda: os.kill(os.getpid(), signal.SIGHUP), "ended by signal 1 (SIGHUP)"),
    ],
)
def test_a_job_that_ends_without_a_word_is_recorded_as_failed(end, error, tmp_path, capsys):
    with pytest.raises(Reported):
        apart(end, tmp_path)
    assert record_of(tmp_path) == {"name": "a", "status": "failed", "error": error}
    assert (tmp_path / "train.log").read_text() == f"{error}\n"
    assert capsys.readouterr().err.splitlines()[-1] == f"error: the job in {os.path.relpath(tmp_path)} {error}"


def test_what_a_job_leaves_running_does_not_hold_its_sweep_up(tmp_path):
    def job():
        if os.fork() == 0:
            time.sleep(60)
        os._exit(3)

    began = time.monotonic()
    with pytest.raises(Reported):
        apart(job, tmp_path)
    assert time.monotonic() - began < 30


def test_a_job_that_has_told_why_it_failed_keeps_its_record(tmp_path):
    def job():
        (tmp_path / "metrics.json").write_text('{"status": "running"}')  # of another start, which holds the folder
        raise REPORTED

    with pytest.raises(Reported):
        apart(job, tmp_path)
    assert record_of(tmp_path) == {"status": "running"}


def started(folder):
    process = subprocess.Popen([sys.executable, "-c", SWEEP, str(folder)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "working\n"
    return process


def is_gone(pid, seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_sweep_that_is_asked_to_end_asks_its_job_once_and_waits_for_it(number, tmp_path):
    with started(tmp_path) as process:
        process.send_signal(number)
        assert process.wait(30) != 0
    assert (tmp_path / "ended").read_text() == f"{signal.SIGTERM:d} saved "


def test_a_job_ends_in_order_where_its_sweep_is_killed(tmp_path):
    with started(tmp_path) as process:
        process.kill()
    assert is_gone(int((tmp_path / "pid").read_text()), 30)
    assert (tmp_path / "ended").read_text() == f"{signal.SIGTERM:d} saved "


def test_a_job_that_was_asked_to_end_is_not_asked_again_where_its_sweep_is_killed_meanwhile(tmp_path):
    """submitit kills its process a second after Ctrl-C."""
    with started(tmp_path) as process:
        process.send_signal(signal.SIGTERM)
        time.sleep(1.0)
        process.kill()
    assert is_gone(int((tmp_path / "pid").read_text()), 30)
    assert (tmp_path / "ended").read_text() == f"{signal.SIGTERM:d} saved "
