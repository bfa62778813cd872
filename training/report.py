"""The reports of a comparison, as files: `comparison.json`, `comparison.md`, and `report.html`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from training import compare
from training.cost import machine
from training.page import page
from training.plots import SPLIT_NAMES
from training.run import FIGURES
from training.tables import (
    ABLATION_CAPTION,
    DISCLAIMER,
    GROUPS_CAPTION,
    MEANINGS,
    SPLIT_SENTENCES,
    ablation_table,
    as_markdown,
    beats_table,
    costs_table,
    figures_table,
    groups_table,
    headline,
    method,
    notes_of,
    plain,
    sources,
    summary_table,
    title_of,
)


def write_reports(settings: compare.Settings, tasks: Sequence[compare.Task], out: Path) -> list[Path]:
    """Write the three reports of a comparison.

    Parameters
    ----------
    settings, tasks
        The settings and the results.
    out
        Folder of the comparison, which holds its networks.

    Returns
    -------
    list of Path
        `comparison.json`, `comparison.md`, `report.html`, and each task's own tables beside its chosen network.
    """
    on = machine()
    texts = {
        "comparison.json": strict_json(compare.as_json(settings, tasks, on)),
        "comparison.md": markdown(settings, tasks, on),
        "report.html": page(settings, tasks, on, out),
    }
    for task in tasks:
        texts[f"{task.name}/final/{FIGURES}"] = markdown(settings, [task], on)
    for name, text in texts.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text(text, encoding="utf-8")
    return [out / name for name in texts]


def strict_json(text: str) -> str:
    """Return standard JSON: null where Python writes NaN or infinity."""
    return json.dumps(json.loads(text, parse_constant=lambda _: None), indent=1, allow_nan=False) + "\n"


def markdown(settings: compare.Settings, tasks: Sequence[compare.Task], machine: str) -> str:
    """Return the tables of a comparison in Markdown."""
    parts = ["# Comparison of networks", f"**{DISCLAIMER}**", as_markdown(summary_table(tasks))]
    for task in tasks:
        parts += [
            f"## {plain(title_of(task))} (`{task.name}`)",
            as_markdown(beats_table(task)),
            "\n".join(f"- {plain(note)}" for note in notes_of(task)),
        ]
        for split in compare.SPLITS:
            heading = SPLIT_NAMES[split].capitalize()
            parts += [f"### {heading}", SPLIT_SENTENCES[split], as_markdown(figures_table(task, split))]
        parts += [
            "### Cost, and the choice",
            as_markdown(costs_table(task)),
            f"Rule: {task.rule} It chose **{plain(headline(task))}**.",
        ]
        if task.ablation:
            parts += ["### Effect of augmentation", ABLATION_CAPTION, as_markdown(ablation_table(task))]
        parts += ["### By group", GROUPS_CAPTION, as_markdown(groups_table(task))]
    parts += [
        "## Method",
        "\n".join(f"- {line}" for line in method(settings, tasks)),
        f"Figures in parentheses are 95 % intervals; the best of each data set is bold. {MEANINGS}",
        f"Machine: {plain(machine)}.",
        f"Command:\n\n```\n{settings.command}\n```",
        "## Data",
        "\n".join(f"- {plain(text)}{f' ({address})' if address else ''}" for text, address in sources(tasks)),
        "From PhysioNet (Goldberger et al. 2000), https://physionet.org.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"
