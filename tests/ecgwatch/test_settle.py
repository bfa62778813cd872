"""Flags go before environment before file before defaults; and what is wrong with a file is said with its place."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest

import ecgwatch.__main__
from ecgwatch.settle import CLIENTS, READERS, Settler
from monitor.classify import find_model
from monitor.command import Group, Program, Verb, build_parser, run_program
from monitor.configuration import Document, find_line

FLAG, SECTION_VARIABLE, VARIABLE = ["--broker=flag"], {"ECGWATCH_WATCH_BROKER": "w"}, {"ECGWATCH_BROKER": "v"}
SECTION, TOP = '[watch]\nbroker = "section"', 'broker = "top"'


def _seen(
    tmp_path: Path, words: list[str], environment: dict[str, str] | None = None, file: str = "", monitor: bool = False
) -> argparse.Namespace:
    """What a command gets."""
    got: list[argparse.Namespace] = []

    def declare(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--broker", default="default")
        parser.add_argument("--workers", type=int, default=1)
        parser.add_argument("--limit", action="append", default=[])
        parser.add_argument("--rule", action="append", default=[])
        parser.add_argument("--state", type=Path)
        parser.add_argument("--no-state", action="store_true")
        parser.add_argument("--name", default="monitor")
        parser.add_argument("--log", choices=("text", "json"), default="text")
        if monitor:
            parser.add_argument("--monitor", default="monitor")

    verb = Verb("watch", "watch", declare, got.append)
    other = Verb("replay", "replay", declare, got.append)
    group = Group("notify", "notify", (Verb("run", "run", declare, got.append),))
    program = Program("p", "p", "p", (verb, other, group))
    path = tmp_path / "c.toml"
    path.write_text(file)
    settler = Settler(program, environment or {})
    program = Program("p", "p", "p", program.commands, settler)
    assert run_program(program, [*words, f"--config={path}"]) == 0
    return got[0]


@pytest.mark.parametrize(
    ("words", "environment", "file", "expected"),
    [
        ([], {}, "", "default"),
        ([], {}, TOP, "top"),
        ([], {}, f"{TOP}\n{SECTION}", "section"),
        ([], VARIABLE, f"{TOP}\n{SECTION}", "v"),
        ([], VARIABLE | SECTION_VARIABLE, f"{TOP}\n{SECTION}", "w"),
        (FLAG, VARIABLE | SECTION_VARIABLE, f"{TOP}\n{SECTION}", "flag"),
        (FLAG, {}, TOP, "flag"),
        (["--broker", "flag"], VARIABLE, "", "flag"),
        ([], SECTION_VARIABLE, "", "w"),
    ],
)
def test_flags_go_before_the_environment_before_the_file_before_defaults(
    words: list[str], environment: dict[str, str], file: str, expected: str, tmp_path: Path
) -> None:
    assert _seen(tmp_path, ["watch", *words], environment, file).broker == expected


def test_a_command_that_is_no_client_of_the_monitor_s_broker_heeds_its_own_section_only(tmp_path: Path) -> None:
    assert _seen(tmp_path, ["replay"], VARIABLE, TOP).broker == "default"
    assert _seen(tmp_path, ["replay"], {}, f'{TOP}\n[replay]\nbroker = "own"').broker == "own"


def test_a_group_has_a_section_for_all_its_commands_and_one_for_each(tmp_path: Path) -> None:
    file = "[notify]\nworkers = 2\nlog = 'json'\n[notify.run]\nworkers = 3"
    got = _seen(tmp_path, ["notify", "run"], {}, file)
    assert (got.workers, got.log) == (3, "json")


def test_the_monitor_s_name_is_dash_dash_monitor_where_a_command_has_that(tmp_path: Path) -> None:
    assert _seen(tmp_path, ["watch"], {}, 'name = "ward"').name == "ward"
    got = _seen(tmp_path, ["watch"], {}, 'name = "ward"', monitor=True)
    assert (got.monitor, got.name) == ("ward", "monitor")


def test_values_have_the_types_of_the_flags_and_paths_lie_beside_the_file(tmp_path: Path) -> None:
    got = _seen(tmp_path, ["watch"], {"ECGWATCH_WATCH_WORKERS": "5"}, 'state = "here"\n[watch]\nrule = ["a", "b"]')
    assert (got.workers, got.state, got.rule) == (5, tmp_path / "here", ["a", "b"])


def test_a_flag_takes_the_place_of_a_list(tmp_path: Path) -> None:
    assert _seen(tmp_path, ["watch", "--rule", "c"], {}, '[watch]\nrule = ["a", "b"]').rule == ["c"]


def test_tables_in_a_list_are_the_words_of_the_flag(tmp_path: Path) -> None:
    file = '[[watch.rule]]\nseverity = ["high", "low"]\ndevice = "bed-*"\nsilenced = true'
    assert _seen(tmp_path, ["watch"], {}, file).rule == ["severity=high,low device=bed-* silenced=true"]


@pytest.mark.parametrize(
    ("words", "file", "expected"),
    [
        (["--state=x"], "[watch]\nno-state = true", (Path("x"), False)),
        (["--no-state"], 'state = "/x"', (None, True)),
        ([], "[watch]\nno-state = true", (None, True)),
    ],
)
def test_a_flag_undoes_its_opposite_in_the_file(
    words: list[str], file: str, expected: tuple[Path | None, bool], tmp_path: Path
) -> None:
    got = _seen(tmp_path, ["watch", *words], {}, file)
    assert (got.state, got.no_state) == expected


def test_a_place_in_the_file_is_relative_to_it_where_it_is_no_url(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "c.toml"
    for command in "run", "history", "labels", "notify run", "record", "export-ecg", "strip", "report", "rerun":
        for text, place in ("st", str(tmp_path / "st")), ("postgresql://db/ecg", "postgresql://db/ecg"):
            file.write_text(f'state = "{text}"')
            assert ecgwatch.__main__.main(["config", "show", command, "--config", str(file)]) == 0
            assert f'\nstate = "{place}"\n' in capsys.readouterr().out


def test_every_client_that_is_named_exists() -> None:
    clients = {" ".join(path) for path in _paths(ecgwatch.__main__.PROGRAM.commands)}
    assert clients >= CLIENTS | READERS


def _paths(commands: Any, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    return [
        found
        for one in commands
        for found in (_paths(one.commands, (*path, one.name)) if isinstance(one, Group) else [(*path, one.name)])
    ]


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ('brokr = "mqtt://x"', ":1: brokr: unknown key, did you mean broker?"),
        ("[run]\n\nwokers = 2", ":3: run.wokers: unknown key, did you mean workers?"),
        ("[rn]\nworkers = 2", ":1: rn: unknown key, did you mean run?"),
        ("[train.fit]\nepoch = 2", ":2: train.fit.epoch: unknown key, did you mean epochs?"),
        ("[run]\nworkers = '2'", ":2: run.workers: expected a whole number, got the text '2'."),
        ("[run]\nworkers = true", ":2: run.workers: expected a whole number, got the truth value true."),
        ("[run]\nsilent = []", ":2: run.silent: expected a number, got a list."),
        ("[run]\nbeats = 1", ":2: run.beats: expected true or false, got the number 1."),
        ("[run]\nmetrics = 9100", ":2: run.metrics: expected a text, got the number 9100."),
        ("[run]\nlog = 'xml'", ":2: run.log: expected one of text, json, got the text 'xml'."),
        ("[run]\nalert = 'x'", ":2: run.alert: got 'x', expected N/M such as 3/5."),
        ("[run]\nlimit = ['a=1']", ":2: run.limit: unknown key"),
        ("run = 3", ":1: run: expected a section, got the number 3."),
        ("broker = 3", ":1: broker: expected a text, got the number 3."),
        ("broker = 'http://x'", ":1: broker: Not a broker URL: got 'http://x'"),
        ("[watch]\nbroker = 'x'", ":2: watch.broker: Not a broker URL: got 'x'"),
        ("prefix = 'a/#'", ":1: prefix: "),
        ("[limits]\nbradicardia-bpm = 45", ":2: limits.bradicardia-bpm: no such limit, did you mean bradycardia-bpm?"),
        ("[limits]\nbradycardia-bpm = '45'", ":2: limits.bradycardia-bpm: expected a number, got the text '45'."),
        ("[limits]\nbradycardia-bpm = 450", ":1: limits: Limits of the heart rate must rise"),
        ("[devices.a1]\nnam = 'x'", ":2: devices.a1.nam: unknown key, expected name or limits."),
        ("[devices.'a b']\nname = 'x'", ":1: devices.a b: not the id of a device"),
        ("[devices.a]\nname = ''", ":2: devices.a.name: expected 1 to 64 printable characters, got the text ''."),
        (
            "[devices.a.limits.pauze]\nlimit_s = 4",
            ":1: devices.a.limits: There is no alert 'pauze', did you mean pause?",
        ),
        ("[devices.a]\nlimits.pause.limit = 4", ":2: devices.a.limits: pause has no limit 'limit'"),
        ("[devices.a]\nlimits.pause.limit_s = 400", ":2: devices.a.limits: pause limit_s must lie between 0.3 and 30"),
        ("[run]\nworkers = 0", ":2: run.workers: A monitor needs at least one worker: got 0."),
        ("model = 'nvs'", ":1: model: No model 'nvs': got neither a file nor one of "),
        ("[run]\nmodel = 'c.toml'", ":2: run.model: "),
        ("shape = 'nvs'", ":1: shape: No model 'nvs'"),
        ("broker = 'mqtts://a'\ncafile = 'no.crt'", ":2: cafile: The CA file "),
        ("broker = 'mqtts://a'\ncafile = 'c.toml'", ":2: cafile: The CA file "),
        ("broker = 'mqtt://a@b'\npassword-file = 'no'", ":2: password-file: The password file "),
        ("[notify]\nwebhook = ['a=http://b/c']\n[[notify.rule]]\nto = 'd'", ":3: notify.rule: A rule says to=d, and"),
        ("[[notify.rule]]\nto = 'd'", ":1: notify.rule: Nowhere to notify: expected --webhook"),
        ("[notify]\nwebhook-file = ['a=no']", ":2: notify.webhook-file: The file "),
        ("[notify.run]\nwebhook-file = ['a=c.toml']", ":2: notify.run.webhook-file: "),
        ("password = 'x'", ":1: password: secrets do not belong into this file"),
        ("[run]\napi-key = 'x'", ":2: run.api-key: secrets do not belong into this file"),
        ("broker = 'mqtt://me:secret@x'", ":1: broker: a URL in this file must not hold a password"),
        ("a = 1\nb = = 2", ":2: not TOML: "),
    ],
)
def test_what_is_wrong_is_said_with_file_line_and_key(
    file: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "c.toml"
    path.write_text(file)
    assert ecgwatch.__main__.main(["config", "check", str(path)]) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"ecgwatch: {path}{message}")
    assert "secret@" not in told
    assert told.count("\n") == 1


def test_check_tells_all_that_is_wrong_with_values(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "c.toml"
    path.write_text("model = 'no.onnx'\n[run]\nworkers = -1\n[notify]\nwebhook-file = ['no']\n")
    assert ecgwatch.__main__.main(["config", "check", str(path)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line.removeprefix(f"ecgwatch: {path}:").split(":")[0] for line in lines] == ["1", "3", "5"]


def test_files_that_it_names_lie_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "c.toml"
    (tmp_path / "mine.onnx").write_bytes(find_model("nsv").read_bytes())
    (tmp_path / "chat").write_text("https://example.org/alerts")
    path.write_text("model = 'mine.onnx'\n[notify]\nwebhook-file = ['ops=chat']\n[[notify.rule]]\nto = 'o*'\n")
    monkeypatch.chdir("/")
    assert ecgwatch.__main__.main(["config", "check", str(path)]) == 0, capsys.readouterr().err
    assert ecgwatch.__main__.main(["config", "show", "--config", str(path)]) == 0
    assert f'model = "{tmp_path / "mine.onnx"}"' in capsys.readouterr().out


def test_a_command_refuses_a_file_that_is_wrong_even_in_the_section_of_another(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "c.toml"
    path.write_text("[watch]\njason = true")
    assert ecgwatch.__main__.main(["models", f"--config={path}"]) == 2
    assert "watch.jason: unknown key, did you mean json?" in capsys.readouterr().err


def test_a_file_that_is_named_must_be_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ecgwatch.__main__.main(["models", "--config", str(tmp_path / "none.toml")]) == 2
    assert "none.toml cannot be read: No such file or directory." in capsys.readouterr().err


@pytest.mark.parametrize("how", ["flag", "variable", "here"])
def test_the_file_is_found_by_flag_by_variable_or_where_one_works(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("flag.toml", "variable.toml", "ecgwatch.toml"):
        (tmp_path / name).write_text(f'broker = "mqtt://{name.removesuffix(".toml")}"')
    monkeypatch.chdir(tmp_path)
    if how != "here":
        monkeypatch.setenv("ECGWATCH_CONFIG", "variable.toml")
    words = ["--config", "flag.toml"] if how == "flag" else []
    assert ecgwatch.__main__.main(["config", "show", "--origin", *words]) == 0
    expected = {"flag": "flag", "variable": "variable", "here": "ecgwatch"}[how]
    assert f'broker = "mqtt://{expected}" ' in capsys.readouterr().out


def test_a_file_that_was_not_named_is_told_of_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "ecgwatch.toml").write_text('[models]\njson = true\nbroker = "x"'.replace('\nbroker = "x"', ""))
    monkeypatch.chdir(tmp_path)
    assert ecgwatch.__main__.main(["models"]) == 0
    shown = capsys.readouterr()
    assert shown.err == "ecgwatch: configuration from ./ecgwatch.toml\n"
    assert shown.out.startswith("[")


def test_show_says_of_each_value_where_it_comes_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "c.toml"
    path.write_text('name = "ward"\n[run]\nworkers = 4\n[limits]\npause-s = 3.5\n[devices.a]\nname = "Bed 4"')
    monkeypatch.setenv("ECGWATCH_RUN_LOG", "json")
    monkeypatch.setenv("ECGWATCH_LIMITS", "asystole-s=5")
    assert ecgwatch.__main__.main(["config", "show", "--origin", f"--config={path}"]) == 0
    lines = dict(line.split("  # ") for line in capsys.readouterr().out.splitlines()[1:])
    told = {key.strip(): origin for key, origin in lines.items()}
    assert told['name = "ward"'] == f"{path}: name"
    assert told["workers = 4"] == f"{path}: run.workers"
    assert told['log = "json"'] == "ECGWATCH_RUN_LOG"
    assert told['model = "nsv"'] == "default"
    assert told["limits.pause-s = 3.5"] == f"{path}: limits.pause-s"
    assert told["limits.asystole-s = 5.0"] == "ECGWATCH_LIMITS"
    assert told['devices.a.name = "Bed 4"'] == f"{path}: devices.a"


def test_check_tells_of_variables_that_nobody_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "c.toml").write_text("")
    monkeypatch.setenv("ECGWATCH_BROKR", "x")
    assert ecgwatch.__main__.main(["config", "check", str(tmp_path / "c.toml")]) == 0
    assert "unknown variable ECGWATCH_BROKR, did you mean ECGWATCH_BROKER?" in capsys.readouterr().err


def test_what_the_environment_says_must_be_of_the_flag_s_type(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ECGWATCH_RUN_WORKERS", "many")
    assert ecgwatch.__main__.main(["run"]) == 2
    assert capsys.readouterr().err == "ecgwatch: ECGWATCH_RUN_WORKERS: invalid int value: 'many'.\n"


def test_every_command_can_be_told_where_the_file_is_unless_it_is_of_its_own() -> None:
    for path in _paths(ecgwatch.__main__.PROGRAM.commands):
        verb, commands = None, ecgwatch.__main__.PROGRAM.commands
        for word in path:
            verb = next(one for one in commands if one.name == word)
            commands = getattr(verb, "commands", ())
        assert isinstance(verb, Verb)
        build_parser(verb, "ecgwatch", is_configurable=True)  # raises where two flags have one name


def test_lines_are_found_in_tables_lists_and_dotted_keys() -> None:
    text = 'a = 1\n[b.c]\n# d\nd.e = 2\n[[f.g]]\nh = 1\n["b"."x y"]\nz=1'
    places = {("a",): 1, ("b", "c"): 2, ("b",): 2, ("b", "c", "d", "e"): 4, ("f", "g", "h"): 6, ("b", "x y", "z"): 8}
    assert {keys: find_line(text, keys) for keys in places} == places
    assert find_line(text, ("q",)) is None


def test_a_document_needs_utf_8(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="it is not UTF-8"):
        Document.read(tmp_path / "c.toml")
