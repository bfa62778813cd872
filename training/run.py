"""A run folder: the output of a training, and how to read it.

It holds `run.json` (`Run`), `weights.pt` (a PyTorch state dict, loaded without executing any code in it), `history.csv`
(one line per epoch), and during training `checkpoint.pt`.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from training.metrics import Figures
from training.models import CLASSIC, NETWORKS, BeatNetwork
from training.split import Shares, SplitKind

DESCRIPTION, WEIGHTS = "run.json", "weights.pt"
FIGURES = "figures.md"
"""Written by a comparison beside the network it chose: figures of all networks, for the model's card."""
FURTHER = "further.md"
"""Written by whoever measured the network on people who were not at hand in training: a paragraph for its card."""


@dataclass(frozen=True)
class Recipe:
    """How a network is trained."""

    net: str
    """A name in `training.models.NETWORKS`."""
    rr: bool = False
    """Whether it takes the RR context."""
    teachers: tuple[str, ...] = ()
    """Networks trained on the same beats whose mean probability it learns from, in addition to the labels."""
    augment: bool = True
    """Whether training beats are augmented, see `training.augment`."""
    without: str | None = None
    """One kind of augmentation to leave out."""
    epochs: int = 10
    seed: int = 0
    device: str = "cpu"
    """"cpu", "cuda", "mps" or "auto"."""
    classic: bool = False
    """Whether it has one sigmoid, and is trained by `training.classic` instead of `training.fit`."""
    shares: Shares = "published"
    """Of train, val and test; see `training.split.split_beats`."""

    @property
    def title(self) -> str:
        """The recipe in a few words, such as "compact, taught"."""
        words = [self.net]
        if self.classic:
            words.append("classic")
        if self.teachers:
            words.append("taught")
        if not (self.augment or self.classic):
            words.append("beats not varied")
        if self.without:
            words.append(f"without {self.without}")
        return ", ".join(words)

    def make_network(self, classes: int) -> BeatNetwork:
        """Return the network, untrained.

        Raises
        ------
        ValueError
            There is no such network.
        """
        networks = CLASSIC if self.classic else NETWORKS
        if self.net not in networks:
            raise ValueError(f"Network: got {self.net!r}, expected one of {', '.join(networks)}.")
        return networks[self.net](classes, self.rr)


@dataclass(frozen=True)
class Run:
    """A finished run: the contents of `run.json`."""

    recipe: Recipe
    data: list[str]
    """Directories of data sets."""
    split: SplitKind
    """"patient" or "beat"."""
    command: str
    """The command that reproduces it."""
    classes: list[str]
    parameters: int
    split_kinds: dict[str, str]
    """How each data set was split: "patient" or "beat"."""
    sha256: dict[str, str]
    """Of each data set's rows and parts, see `training.split.hash_rows`."""
    notes: list[str]
    seconds: float
    threshold: float
    """Probability of not being normal from which a beat counts as abnormal."""
    threshold_from: str
    """The beats on which the threshold was chosen, in words."""
    figures: dict[str, dict[str, Figures]]
    """Part (such as "test") -> data set -> figures of `training.metrics`, and "patients"."""

    def save(self, folder: Path) -> None:
        """Write `run.json`."""
        (folder / DESCRIPTION).write_text(json.dumps(asdict(self), indent=2) + "\n")


def load_run(folder: Path) -> tuple[Run, BeatNetwork]:
    """Load a run and its network, in evaluation mode on the CPU.

    Raises
    ------
    ValueError
        The folder holds no finished run, or one whose weights do not fit its network.
    """
    try:
        stored = json.loads((folder / DESCRIPTION).read_text())
        recipe = Recipe(**{**stored["recipe"], "teachers": tuple(stored["recipe"]["teachers"])})
        run = Run(**{**stored, "recipe": recipe})
        network = run.recipe.make_network(len(run.classes))
        network.load_state_dict(torch.load(folder / WEIGHTS, weights_only=True))
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise ValueError(f"{folder}: got no finished run of 'python -m training fit': {error}") from None
    network.eval()
    return run, network
