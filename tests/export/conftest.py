from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from training import metrics
from training.models import NETWORKS, count_parameters
from training.run import WEIGHTS, Run, Settings

WriteRun = Callable[..., Path]


@pytest.fixture
def write_run(tmp_path: Path) -> WriteRun:
    """Write a run folder of an untrained network."""

    def write(net: str = "cnn", split: str = "patient", auc: float = 0.875) -> Path:
        torch.manual_seed(0)
        network = NETWORKS[net]()
        row: metrics.Figures = dict.fromkeys(("beats", "patients"), 40.0)
        row |= dict.fromkeys(("accuracy", "balanced_accuracy", "sensitivity", "specificity", "ppv", "f1"), 0.75)
        row["auc"] = row["auc_late"] = auc
        run = Run(
            settings=Settings(net, ["somewhere"], "patient" if split == "patient" else "beat", 0, 60, 10, True, "cpu"),
            command=f"python -m training fit --net {net} --split {split}",
            parameters=count_parameters(network),
            split_kinds={"ptbdb": split},
            sha256={"ptbdb": "0" * 64},
            notes=["a note of the run"],
            epochs=3,
            best_epoch=2,
            seconds=1.0,
            threshold=0.4375,
            figures={"val": {"ptbdb": row}, "test": {"ptbdb": row}},
        )
        folder = tmp_path / f"{net}-{split}"
        folder.mkdir()
        run.save(folder)
        torch.save(network.state_dict(), folder / WEIGHTS)
        return folder

    return write
