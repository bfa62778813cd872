from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from monitor import beat
from recordings.classes import CLASSES
from training import data, metrics
from training.models import NETWORKS, count_parameters
from training.run import WEIGHTS, Recipe, Run

WriteRun = Callable[..., Path]


@pytest.fixture
def write_run(tmp_path: Path) -> WriteRun:
    """Write a run folder of an untrained network."""

    def write(net: str = "cnn", five: bool = False, auc: float = 0.875) -> Path:
        torch.manual_seed(0)
        classes = CLASSES if five else data.BINARY
        network = NETWORKS[net](len(classes), five)
        row = metrics.figures(
            np.arange(10) % len(classes), np.full((10, len(classes)), 0.2), 0.5, classes, np.full(10, "")
        )
        row |= {"beats": 40.0, "patients": 7.0, "roc_auc": auc}
        run = Run(
            recipe=Recipe(net, rr=five, epochs=3),
            data=["somewhere"],
            split="patient",
            command=f"python -m training fit --net {net}",
            classes=list(classes),
            parameters=count_parameters(network),
            split_kinds={"mitdb" if five else "ptbdb": "patient"},
            sha256={"mitdb" if five else "ptbdb": "0" * 64},
            notes=["a note of the run"],
            seconds=1.0,
            threshold=0.4375,
            threshold_from="val part",
            figures={part: {"mitdb" if five else "ptbdb": row} for part in ("val", "test")},
        )
        folder = tmp_path / f"{net}-{len(classes)}"
        folder.mkdir()
        run.save(folder)
        torch.save(network.state_dict(), folder / WEIGHTS)
        return folder

    return write


def random_beats(five: bool = False, n: int = 600) -> data.Beats:
    """Beats of random shape, every class among them."""
    rng = np.random.default_rng(0)
    classes = CLASSES if five else data.BINARY
    windows = np.stack([beat.fit_window(np.cumsum(rng.normal(0, 1, rng.integers(60, 187)))) for _ in range(n)])
    rr = beat.rr_context(rng.uniform(0.4, 1.2, n), rng.uniform(0.4, 1.2, n), np.full(n, 0.8))
    text = np.full(n, "")
    labels = np.arange(n) % len(classes)
    about = pd.DataFrame(index=range(n))
    return data.Beats(windows, labels, classes, text, np.full(n, "random"), text, text, rr, about)
