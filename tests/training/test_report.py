from __future__ import annotations

import html
import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from monitor import beat
from training import compare, data, metrics, models, plots, report, tables
from training.cost import Cost
from training.run import Recipe
from training.split import SplitKind

torch.set_num_threads(1)

SETTINGS = compare.Settings(["data"], "out", ["cnn", "compact"], 2, 3, 0, "cpu", 1, "python -m training compare <&>")
RECIPES = [Recipe("cnn"), Recipe("compact"), Recipe("compact", teachers=("cnn", "compact"))]
HOSTILE = "<b>bad|'\"&</b>"
"""A name that breaks HTML, SVG and Markdown unless it is escaped."""


def toy_beats(classes: tuple[str, ...], names: tuple[str, ...], patients: int = 4, of_each: int = 6) -> data.Beats:
    """Some beats of each class; the later the class, the later the bump."""
    rng = np.random.default_rng(0)
    n = len(names) * len(classes) * patients * of_each
    number = np.arange(n)
    labels = number // (patients * of_each) % len(classes)
    time = np.arange(150)
    bumps = np.exp(-0.5 * ((time - (30 + 15 * labels)[:, None]) / 5) ** 2) + rng.normal(0, 0.01, (n, 150))
    datasets = np.array(names)[number // (len(classes) * patients * of_each)]
    patient = np.char.add(np.char.add(datasets, "/"), np.char.add(HOSTILE, (number // of_each).astype(np.str_)))
    return data.Beats(
        windows=np.stack([beat.fit_window(bump) for bump in bumps]),
        labels=labels,
        classes=classes,
        patients=patient,
        datasets=datasets,
        given=np.full(n, ""),
        records=patient,
        rr=np.full((n, 3), np.nan, np.float32),
        about=pd.DataFrame({"age": np.full(n, np.nan), "sex": np.full(n, ""), "diagnosis": np.full(n, "")}),
        notes=(f"{HOSTILE} is a note.",),
    )


def toy_judged(beats: data.Beats, recipe: Recipe, split: SplitKind) -> compare.Judged:
    """Verdicts that are mostly right, drawn for the recipe."""
    rng = np.random.default_rng(RECIPES.index(recipe) if recipe in RECIPES else 9)
    logits = rng.normal(0, 1, (len(beats), len(beats.classes)))
    logits[np.arange(len(beats)), beats.labels] += 1.5
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    row = {"loss": 0.6, "train_auc": 0.8, "val_loss": math.nan, "val_auc": 0.7, "seconds": 1.0}
    history = [{"epoch": float(epoch), **row} for epoch in (1, 2)]
    fold = np.arange(len(beats)) % 2
    return compare.Judged(
        recipe, split, np.arange(len(beats)), fold, p, np.full(len(beats), 0.5), 1 - p[:, 0], [history, history]
    )


def toy_lines(beats: data.Beats, judged: compare.Judged) -> list[compare.Line]:
    lines = []
    for name in beats.names():
        rows = np.flatnonzero(beats.datasets == name)
        figures = metrics.figures(
            beats.labels[rows], judged.probabilities[rows], 0.5, beats.classes, beats.records[rows]
        )
        figures |= {"roc_auc_varied": figures["roc_auc"] - 0.01, "patients": 8.0}
        if len(beats.classes) > 2:
            figures |= {"record_auc": math.nan, "ppv F": math.nan}
        around = {key: (value - 0.02, value + 0.02) for key, value in figures.items()}
        lines.append(compare.Line(judged.recipe.title, judged.split, name, figures, around))
    return lines


def toy_task(classes: tuple[str, ...], names: tuple[str, ...], out: Path) -> compare.Task:
    """A finished comparison, but for the training; the compact network of fold 0 lies where it should."""
    beats = toy_beats(classes, names)
    judged = [toy_judged(beats, recipe, split) for split in compare.SPLITS for recipe in RECIPES]
    ablation = [toy_judged(beats, replace(RECIPES[1], without="noise"), "patient")]
    task = compare.Task(
        name=next(name for name, of_task in data.TASKS.items() if of_task == classes),
        beats=beats,
        judged=judged,
        ablation=ablation,
        costs={one.title: Cost(1000 + i, 5000, 100 / (1 + 9 * i)) for i, one in enumerate(RECIPES)},
        lines=[line for one in judged for line in toy_lines(beats, one)],
        ablation_lines=[line for one in ablation for line in toy_lines(beats, one)],
        groups=[("diagnosis", HOSTILE, toy_lines(beats, judged[0])[0].figures)],
        rule="The one that this test is about.",
        chosen=RECIPES[1],
    )
    folder = compare.folder_of(out, task.name, "patient", task.chosen, 0)
    folder.mkdir(parents=True)
    torch.save(models.NETWORKS["compact"](len(classes), False).state_dict(), folder / "weights.pt")
    return task


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> list[compare.Task]:
    out = tmp_path_factory.getbasetemp() / "reports"
    return [toy_task(data.BINARY, ("ptbdb", HOSTILE), out), toy_task(("N", "S", "V", "F", "Q"), ("mitdb",), out)]


@pytest.fixture(scope="module")
def written(tasks: list[compare.Task], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Name of a report -> what stands in it."""
    out = tmp_path_factory.getbasetemp() / "reports"
    return {path.name: path.read_text(encoding="utf-8") for path in report.write_reports(SETTINGS, tasks, out)}


class Tags(HTMLParser):
    """All tags of a page with their attributes, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, text: str) -> None:
        self.text += text


def test_three_reports_are_written(written: dict[str, str]) -> None:
    assert set(written) == {"comparison.json", "comparison.md", "report.html", "figures.md"}
    assert len(written["report.html"]) < 3_000_000


def test_page_is_self_contained(written: dict[str, str]) -> None:
    page = Tags(written["report.html"])
    assert not {"script", "link", "iframe", "object", "embed", "base"} & {tag for tag, _ in page.tags}
    assert not [attributes for _, attributes in page.tags if "src" in attributes or "srcset" in attributes]
    outside = {value or "" for _, attributes in page.tags for name, value in attributes.items() if "href" in name}
    assert {one for one in outside if not one.startswith("#")} == {
        "https://physionet.org/content/ptbdb/",
        "https://physionet.org/content/mitdb/",
    }
    assert "@import" not in written["report.html"]
    assert not re.search(r"url\((?!#)", written["report.html"])


def test_navigation_links_to_every_section_of_the_page(written: dict[str, str]) -> None:
    page = Tags(written["report.html"]).tags
    anchors = [attributes["id"] for tag, attributes in page if tag in ("section", "h2") and "id" in attributes]
    links = [attributes["href"] for tag, attributes in page if tag == "a"]
    assert len(set(anchors)) == len(anchors)
    assert [f"#{anchor}" for anchor in anchors] == [link for link in links if link and link.startswith("#")]


def test_every_figure_has_a_caption(written: dict[str, str]) -> None:
    captions = re.findall(r"<figcaption>(.+?)</figcaption>", written["report.html"])
    assert len(captions) == written["report.html"].count("<figure>") > 20
    assert all(caption.endswith(".") for caption in captions)


def test_page_states_disclaimer_labels_and_sources(written: dict[str, str]) -> None:
    text = Tags(written["report.html"]).text
    assert "not a medical device" in text
    assert text.count("labels belong to whole recordings") == 1  # of the two tasks only the first has such labels
    assert "PTB Diagnostic ECG Database, ODC-By 1.0" in text
    assert "compact, taught: learns from the mean probability of cnn, compact" in text
    assert f"{HOSTILE}: source and licence are not known here" in text


def test_strings_from_data_are_escaped(written: dict[str, str]) -> None:
    assert HOSTILE not in written["report.html"]
    assert "<b>bad" not in written["report.html"] + written["comparison.md"]
    assert HOSTILE in Tags(written["report.html"]).text
    assert "compare &lt;&amp;&gt;" in written["report.html"]
    for row in re.findall(r"^\|.*bad.*$", written["comparison.md"], re.MULTILINE):
        assert "bad\\|" in row


def test_every_network_and_data_set_is_in_the_tables(written: dict[str, str], tasks: list[compare.Task]) -> None:
    lines = [re.split(r"(?<!\\)\|", line)[1:-1] for line in written["comparison.md"].splitlines()]
    rows = [[html.unescape(cell.strip(" *")).replace("\\|", "|") for cell in line] for line in lines]
    for task in tasks:
        for name in task.beats.names():
            for title in ("cnn", "compact", "compact, taught"):
                shown = f"{title} (chosen)" if title == task.chosen.title else title
                assert len([row for row in rows if row[:2] == [name, shown]]) == len(compare.SPLITS), (name, title)


def test_rows_have_as_many_cells_as_the_heading(tasks: list[compare.Task]) -> None:
    for task in tasks:
        for table in (
            tables.figures_table(task, "patient"),
            tables.beats_table(task),
            tables.costs_table(task),
            tables.ablation_table(task),
            tables.groups_table(task),
        ):
            assert {len(row) for row in table.rows} == {len(table.headings)}


def test_best_of_each_data_set_is_bold_and_lower_is_better_where_it_should_be(tasks: list[compare.Task]) -> None:
    table = tables.figures_table(tasks[0], "patient")
    for name in tasks[0].beats.names():
        rows = [row for row in table.rows if row[0].text == name]
        for heading, wanted in (("ROC-AUC", max), ("Brier", min)):
            cells = [row[table.headings.index(heading)] for row in rows]
            assert {cell.text for cell in cells if cell.best} == {wanted(cell.text for cell in cells)}


def test_main_figures_come_with_their_interval(tasks: list[compare.Task]) -> None:
    table = tables.figures_table(tasks[0], "patient")
    cell = table.rows[0][table.headings.index("ROC-AUC")]
    value = tasks[0].lines[0].figures["roc_auc"]
    assert (cell.text, cell.interval) == (f"{value:.3f}", f"({value - 0.02:.3f}\N{EN DASH}{value + 0.02:.3f})")
    assert table.rows[0][table.headings.index("accuracy")].interval == ""


def test_unknown_figure_is_a_dash(tasks: list[compare.Task]) -> None:
    table = tables.figures_table(tasks[1], "patient")
    cells = [row[table.headings.index("PPV F")] for row in table.rows]
    assert {(cell.text, cell.best) for cell in cells} == {("\N{EN DASH}", False)}


def test_ablation_shows_the_difference_from_the_full_recipe(tasks: list[compare.Task]) -> None:
    table = tables.ablation_table(tasks[0])
    full, without = table.rows[0], table.rows[1]
    assert [full[1].text, without[1].text] == ["nothing: the full recipe", "noise"]
    change = tasks[0].ablation_lines[0].figures["roc_auc"] - tasks[0].lines[2].figures["roc_auc"]
    assert float(without[3].text.replace("\N{MINUS SIGN}", "-")) == pytest.approx(change, abs=0.0006)
    assert "macro F1" in tables.ablation_table(tasks[1]).headings


def test_data_set_of_unknown_patients_is_not_called_inter_patient(tasks: list[compare.Task]) -> None:
    nobody = replace(tasks[1], beats=replace(tasks[1].beats, patients=np.full(len(tasks[1].beats), "")))
    assert "patients unknown" not in report.markdown(SETTINGS, tasks, "")
    assert "mitdb (patients unknown: intra-patient)" in report.markdown(SETTINGS, [nobody], "")


def test_json_is_strict(written: dict[str, str]) -> None:
    def refuse(constant: str) -> None:
        pytest.fail(constant)

    read = json.loads(written["comparison.json"], parse_constant=refuse)
    assert read["tasks"]["ptb"]["lines"][0]["figures"]["record_auc"] > 0
    assert read["tasks"]["mitbih"]["lines"][0]["figures"]["record_auc"] is None


def test_confident_errors_come_first_and_no_record_comes_twice(tasks: list[compare.Task]) -> None:
    beats, judged = tasks[0].beats, tasks[0].judged[0]
    p = np.where(beats.labels == 1, 0.9, 0.1)  # all correct ...
    p[[3, 4, 60, 30]] = [0.99, 0.98, 0.7, 0.2]  # ... except these, of which the first two are of one record
    cases = plots.choose_cases(beats, replace(judged, probabilities=np.stack([1 - p, p], axis=1)), best=4)
    assert [case.row for case in cases[:3]] == [3, 30, 60]
    assert [case.is_correct for case in cases] == [False] * 3 + [True] * 4
    assert [case.true for case in cases[3:]] == [0, 1, 0, 1]
    assert len({case.record for case in cases}) == len(cases)
    assert cases[0].probability == pytest.approx(0.99)


class LookingAtOnePart(models.BeatNetwork):
    """A network whose output depends on samples 60 to 65 only."""

    def __init__(self) -> None:
        super().__init__(2, 0, 2, False, 0.0)
        as_it_is = nn.Linear(2, 2, bias=False)
        as_it_is.weight.data = torch.eye(2)
        self.head = nn.Sequential(as_it_is)

    def encode(self, windows: Tensor) -> Tensor:
        seen = 4 * windows[:, 60:66].mean(dim=1)
        return torch.stack([torch.zeros_like(seen), seen], dim=1)


def test_occlusion_is_highest_at_the_samples_the_network_uses() -> None:
    windows = np.zeros((3, beat.LENGTH), np.float32)
    windows[:, :100] = 0.2
    windows[:, 58:68] = 1.0
    windows[2, 40:] = 0.0
    seconds, change = plots.occlusion(LookingAtOnePart().eval(), windows, np.full((3, 3), np.nan, np.float32))
    assert seconds[np.nanargmax(change[0])] == pytest.approx(63 / beat.RATE_HZ, abs=0.02)
    assert np.nanmax(change[0][seconds < 0.4]) == 0
    assert np.isnan(change[0][seconds > 99 / beat.RATE_HZ]).all()  # padding is never occluded
    assert np.isnan(change[2][seconds > 39 / beat.RATE_HZ]).all()


def test_padding_is_left_out_of_the_mean_beat() -> None:
    windows = np.zeros((4, beat.LENGTH), np.float32)
    windows[:, :50] = 0.5
    windows[3, 50:100] = 0.9
    mean, spread = plots.mean_window(windows)
    assert mean[[10, 60]] == pytest.approx([0.5, 0.9])
    assert spread[60] == pytest.approx(0)
    assert np.isnan(mean[100:]).all()


def test_rows_are_chosen_from_every_class_up_to_the_limit() -> None:
    labels = np.array([0] * 1000 + [1] * 3)
    chosen = labels[plots.choose_rows(labels, 40)]
    assert np.bincount(chosen).tolist() == [20, 3]
