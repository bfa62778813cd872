"""A run folder: what a training leaves behind, and how it is read again.

It holds `run.json` (`Run`), `weights.pt` (a PyTorch state dict, loaded without running any code in it) and
`history.csv` (one line an epoch).
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import nn

from training.data import SplitKind
from training.metrics import Figures
from training.models import NETWORKS

DESCRIPTION, WEIGHTS = "run.json", "weights.pt"


@dataclass(frozen=True)
class Settings:
    """What a run was asked to do."""

    net: str
    """A name in `training.models.NETWORKS`."""
    data: list[str]
    """Directories of data sets."""
    split: SplitKind
    """"patient" or "beat"."""
    seed: int
    epochs: int
    """Most epochs."""
    patience: int
    """Epochs without a better validation AUC before the loop ends."""
    augment: bool
    """Whether training beats are varied, see `training.augment`."""
    device: str
    """"cpu", "cuda" or "auto"."""


@dataclass(frozen=True)
class Run:
    """What `run.json` says of a finished run."""

    settings: Settings
    command: str
    """The command that repeats it."""
    parameters: int
    split_kinds: dict[str, str]
    """How each data set was split: "patient" or "beat"."""
    sha256: dict[str, str]
    """Of each data set's rows and parts, see `training.data.hash_rows`."""
    notes: list[str]
    epochs: int
    """Epochs that were run."""
    best_epoch: int
    """Epoch whose weights were kept."""
    seconds: float
    threshold: float
    """Probability from which a beat counts as abnormal: of the highest balanced accuracy on val."""
    figures: dict[str, dict[str, Figures]]
    """Part ("val", "test") -> data set, or "all" -> figures, "patients" among them."""

    def save(self, folder: Path) -> None:
        """Write `run.json`."""
        (folder / DESCRIPTION).write_text(json.dumps(asdict(self), indent=2) + "\n")


def load_run(folder: Path) -> tuple[Run, nn.Module]:
    """A run and its network, in evaluation mode on the CPU.

    Raises
    ------
    ValueError
        The folder holds no finished run, or one whose weights do not fit its network.
    """
    try:
        stored = json.loads((folder / DESCRIPTION).read_text())
        run = Run(**{**stored, "settings": Settings(**stored["settings"])})
        network = NETWORKS[run.settings.net]()
        network.load_state_dict(torch.load(folder / WEIGHTS, weights_only=True))
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise ValueError(f"{folder}: got no finished run of 'python -m training fit': {error}") from None
    network.eval()
    return run, network
