"""The one command: every verb of every package, light help, one-line errors, and what to install."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import export.__main__
import monitor.__main__
import monitor.flags
import simulator.__main__
import training.__main__
from ecgwatch.__main__ import PROGRAM, main
from ecgwatch.completion import SHELLS
from monitor import wire
from monitor.broker import connection
from monitor.command import Group

VERBS = [
    *([one.name] for one in PROGRAM.commands if not isinstance(one, Group)),
    *([group.name, verb.name] for group in PROGRAM.commands if isinstance(group, Group) for verb in group.commands),
]
HEAVY = {"numpy", "scipy", "numba", "onnxruntime", "paho", "msgspec", "prometheus_client", "torch", "pandas", "wfdb"}


def _python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True, text=True, timeout=100, env={**os.environ, **environment}, check=False,
    )  # fmt: skip


def _without(*packages: str) -> str:
    """Code after which these packages cannot be imported."""
    return f"""
import sys, importlib.abc
class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {packages!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
from ecgwatch.__main__ import main
"""


def _error(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Return the one line that is printed where the words cannot be understood."""
    with pytest.raises(SystemExit) as stopped:
        main(words)
    shown = capsys.readouterr()
    assert (stopped.value.code, shown.out, shown.err.count("\n")) == (2, "", 1)
    return shown.err


@pytest.mark.parametrize("words", VERBS, ids=" ".join)
def test_every_verb_explains_itself(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([*words, "--help"])
    assert stopped.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: ecgwatch {' '.join(words)} ")


def test_no_two_verbs_have_one_name() -> None:
    names = [command.name for command in PROGRAM.commands]
    assert len(set(names)) == len(names)


def test_help_of_no_verb_loads_anything_heavy() -> None:
    code = f"""
import sys, contextlib, io
from ecgwatch.__main__ import main
for words in {VERBS!r} + [[]]:
    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):
        main([*words, "--help"])
print(*{HEAVY!r} & set(name.partition(".")[0] for name in sys.modules))
"""
    done = _python(code)
    assert (done.stdout.strip(), done.stderr) == ("", "")


def test_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--version"])
    assert stopped.value.code == 0
    assert capsys.readouterr().out == f"ecgwatch {version('ecgwatch')}\n"


def test_help_lists_each_command_once_and_what_a_newcomer_needs_first(capsys: pytest.CaptureFixture[str]) -> None:
    listed = [name for section in PROGRAM.sections for name in section.commands]
    assert sorted(listed) == sorted(command.name for command in PROGRAM.commands)
    with pytest.raises(SystemExit) as stopped:
        main(["--help"])
    assert stopped.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    names = [line.split()[0] for line in lines if line.startswith("  ") and line[2:3].isalpha()]
    assert names == listed
    assert names[0] == "demo"


def test_help_of_a_command_shows_the_defaults_that_say_something(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["run", "--help"])
    told = capsys.readouterr().out
    assert "(default: 1)" in told
    assert not re.search(r"default:\s+(None|False|\[\])", told)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["brokr"], "ecgwatch: unknown command 'brokr', did you mean broker?"),
        (["train", "fitt"], "ecgwatch train: unknown command 'fitt', did you mean fit?"),
        (["run", "--brokr", "x"], "ecgwatch run: unknown flag --brokr, did you mean --broker?"),
        (["export", "onnx", "--presicion=int8"], "unknown flag --presicion, did you mean --precision?"),
        (["xyzzy"], "unknown command 'xyzzy' (see 'ecgwatch --help')"),
        (["run", "--work", "2"], "unknown flag --work, did you mean --workers?"),
        (["classify"], "ecgwatch classify: the following arguments are required: FILE.csv"),
        (["run", "--log", "xml"], "invalid choice: 'xml'"),
        ([], "ecgwatch: expected a command, such as demo, doctor, run, page (see 'ecgwatch --help')"),
        (["train"], "ecgwatch train: expected a command: fit, compare"),
        (["--versoin"], "unknown flag --versoin, did you mean --version?"),
    ],
)
def test_a_mistyped_word_gets_the_nearest_known_one_in_one_line(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in _error(words, capsys)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "--broker", "http://x"], "ecgwatch: Not a broker URL"),
        (["replay", "--devices", "0"], "ecgwatch: A fleet must have 1 to"),
        (["fit-beats", "--data", "nowhere"], "ecgwatch: No PTB files in nowhere"),
        (["train", "fetch", "x"], "ecgwatch: Source: got 'x'"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_exit_status_2(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    shown = capsys.readouterr().err
    assert shown.startswith(message)
    assert shown.count("\n") == 1


@pytest.mark.parametrize(
    ("missing", "words", "extra"),
    [
        ("torch", ["train", "fit", "--data", "/nowhere"], "train"),
        ("rich", ["train", "compare"], "train"),
        ("torch", ["train", "baselines", "streams.npz"], "versus"),
        ("rich", ["train", "fetch", "mitdb"], "fetch"),
        ("onnx", ["export", "onnx", "run"], "train"),
        ("torch", ["export", "verify", "model.onnx", "run"], "train"),
        ("pandas", ["export", "evaluate", "ptb", "--data", "/nowhere"], "train"),
    ],
)
def test_without_an_extra_the_error_names_the_extra_to_install(missing: str, words: list[str], extra: str) -> None:
    done = _python(f"{_without(missing)}sys.exit(main({words!r}))")
    assert done.returncode == 2
    assert f"needs the package {missing}: pip install 'ecgwatch[{extra}]'" in done.stderr
    assert done.stderr.count("\n") == 1


def test_without_wfdb_score_names_the_extra_to_install(tmp_path: Path) -> None:
    for suffix in (".hea", ".atr", ".dat"):
        (tmp_path / f"record{suffix}").touch()
    words = ["score", str(tmp_path / "record")]
    done = _python(f"{_without('wfdb')}sys.exit(main({words!r}))")
    assert done.returncode == 2
    assert "pip install 'ecgwatch[records]'" in done.stderr
    assert done.stderr.count("\n") == 1


def test_base_commands_run_without_any_extra() -> None:
    absent = _without("torch", "onnx", "pandas", "matplotlib", "rich", "wfdb")
    code = f'{absent}sys.exit(main(["models"]) or main(["demo", "--devices", "2", "--seconds", "4"]))'
    done = _python(code, ECGWATCH_DATA="")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("shell", SHELLS)
def test_completion_prints_a_script_for_each_shell(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    shown = capsys.readouterr().out
    assert "ecgwatch" in shown
    assert "_ARGCOMPLETE" in shown


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("ecgwatch do", "doctor"),
        ("ecgwatch train co", "compare"),
        ("ecgwatch run --work", "--workers"),
        ("ecgwatch export onnx --prec", "--precision"),
    ],
)
def test_a_shell_that_completes_gets_the_words_that_fit(typed: str, expected: str, tmp_path: Path) -> None:
    answer = tmp_path / "answer"
    done = _python(
        "from ecgwatch.__main__ import main; main()",
        _ARGCOMPLETE="1", COMP_LINE=typed, COMP_POINT=str(len(typed)), _ARGCOMPLETE_STDOUT_FILENAME=str(answer),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert expected in answer.read_text()


def test_modules_and_the_one_command_share_their_verbs() -> None:
    groups = {one.name: one.commands for one in PROGRAM.commands if isinstance(one, Group)}
    assert set(monitor.__main__.VERBS) | set(simulator.__main__.VERBS) <= set(PROGRAM.commands)
    assert (groups["train"], groups["export"]) == (training.__main__.VERBS, export.__main__.VERBS)


def test_defaults_written_twice_are_the_same() -> None:
    for module in (monitor.flags, simulator.__main__):
        assert (module.BROKER, module.PREFIX) == (connection.DEFAULT_URL, wire.PREFIX)
    assert (simulator.__main__.PORT, simulator.__main__.PASSWORD_VARIABLE) == (
        connection.PORT,
        connection.PASSWORD_VARIABLE,
    )
