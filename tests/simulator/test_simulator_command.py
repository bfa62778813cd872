"""The simulator's command line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from monitor.broker.connection import BrokerUrl
from simulator.__main__ import main
from simulator.broker import EmbeddedBroker, free_port
from tests.conftest import listens
from tests.simulator.recorder import wait_for


def run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command as a user would."""
    known = {name: value for name, value in os.environ.items() if name != "ECGWATCH_DATA"}
    return subprocess.run(
        [sys.executable, "-m", "simulator", *words],
        capture_output=True,
        text=True,
        timeout=60,
        env={**known, **environment},
        check=False,
    )


def test_help_shows_verbs_and_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    for words, expected in ((["--help"], "fit-beats"), (["replay", "--help"], "(default: 8)")):
        with pytest.raises(SystemExit) as ended:
            main(words)
        assert ended.value.code == 0
        assert expected in capsys.readouterr().out


def test_help_loads_neither_pandas_nor_scipy_nor_a_network() -> None:
    code = (
        "import sys; from simulator.__main__ import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: print(sorted({'pandas', 'scipy', 'iotcore', 'torch', 'wfdb'} & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.splitlines()[-1] == "[]"


def test_replay_prints_first_the_beats_it_plays_and_last_what_was_sent() -> None:
    with EmbeddedBroker(port=0) as broker:
        done = run("replay", "--broker", str(broker.url), "--devices", "2", "--duration", "2.5", "--fault", "duplicate")
    lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stderr
    assert lines[0].startswith("playing made-up beats, drawn from a model")
    assert "0 lost" in lines[-1]
    assert "lateness p50" in lines[-1]
    assert done.stderr == ""


def test_replay_plays_a_record(ecg_data: Path) -> None:
    with EmbeddedBroker(port=0) as broker:
        record = str(ecg_data / "mitdb" / "101")
        done = run("replay", "--broker", str(broker.url), "--record", record, "--speed", "20", "--duration", "2")
    assert done.stdout.startswith("playing 101\n")
    assert done.returncode == 0, done.stderr


def test_replay_finds_the_data_by_the_environment_variable(ecg_data: Path) -> None:
    with EmbeddedBroker(port=0) as broker:
        done = run("replay", "--broker", str(broker.url), "--duration", "0.1", ECGWATCH_DATA=str(ecg_data))
    assert done.stdout.startswith(f"playing PTB beats from {ecg_data / 'ptbdb'}: 161 normal, 771 abnormal")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["replay", "--broker", "localhost"], "Not a broker URL"),
        (["replay", "--broker", "mqtt://anna:sesame@localhost"], "must not hold a password"),
        (["replay", "--fault", "smoke"], "Unknown fault"),
        (["replay", "--data", "nowhere"], "No PTB files in nowhere"),
        (["replay", "--devices", "0"], "A fleet must have 1 to"),
        (["replay", "--speed", "0"], "Speed must be a positive number"),
        (["replay", "--prefix", "a/#"], "A topic prefix must be"),
        (["replay", "--record", "nowhere"], "No file nowhere, and no WFDB record nowhere.hea"),
        (["replay", "--broker", f"mqtt://127.0.0.1:{free_port()}"], "No broker reached"),
        (["load", "--devices", "0"], "Load, devices: got 0, expected 1 to 100000"),
        (["load", "--broker", "mqtts://127.0.0.1"], "No TLS here"),
        (["load", "--broker", f"mqtt://127.0.0.1:{free_port()}"], "No broker reached"),
        (["broker", "--port", "70000"], "A broker's port must be"),
        (["fit-beats", "--data", "nowhere"], "No PTB files in nowhere"),
    ],
)  # fmt: skip
def test_error_is_one_line_and_exit_status_2(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ECGWATCH_DATA", raising=False)
    assert main(words) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("simulator: ")
    assert message in shown
    assert shown.count("\n") == 1


def test_closed_pipe_is_not_an_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "simulator", "replay"]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, timeout=60, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


def test_fit_beats_writes_the_model(tmp_path: Path, ecg_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "model.npz"
    assert main(["fit-beats", "--data", str(ecg_data), "--out", str(out)]) == 0
    assert f"{out}, {out.stat().st_size} bytes" in capsys.readouterr().out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_broker_and_replay_cleanly(number: signal.Signals) -> None:
    port = free_port()
    url = BrokerUrl("127.0.0.1", port)
    with subprocess.Popen(
        [sys.executable, "-m", "simulator", "broker", "--port", str(port)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as broker:
        try:
            wait_for(lambda: listens(port))
            assert broker.stdout is not None
            assert str(url) in broker.stdout.readline()
            end_replay(url, number)
            os.killpg(broker.pid, number)  # as a terminal does: to the child as well
            assert broker.communicate(timeout=20)[1] == ""
        finally:
            broker.kill()
    assert broker.returncode == 0
    assert not listens(port)


def end_replay(url: BrokerUrl, number: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "simulator", "replay", "--broker", str(url), "--devices", "2"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as replay:
        try:
            assert replay.stdout is not None
            replay.stdout.readline()
            assert "2 devices to" in replay.stdout.readline()
            replay.send_signal(number)
            out, errors = replay.communicate(timeout=20)
        finally:
            replay.kill()
    assert (replay.returncode, errors) == (0, "")
    assert "0 lost" in out
