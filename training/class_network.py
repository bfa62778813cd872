"""The network of class models: windows beside templates (n, 2, 120) and context (n, 21) to logits of N, S, V.

Two branches that err differently, a convolutional and a fully connected one, each with a head of its own; the answer is
the mean of their logits. Each is trained to be right alone as well, so the two make a small ensemble in one file.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from monitor import beat2
from training.models import Pairs

CLASSES = ("N", "S", "V")
"""Normal (bundle branch block and escape included), supraventricular ectopic, ventricular ectopic."""
FARTHEST = 4.0
"""Context counts within so many standard deviations."""


class ClassNetwork(nn.Module):
    """71 thousand parameters.

    Parameters
    ----------
    mean, deviation
        (21,) of the context.
    """

    def __init__(self, mean: Tensor, deviation: Tensor) -> None:
        super().__init__()
        self.mean: Tensor
        self.register_buffer("mean", mean)
        self.deviation: Tensor
        self.register_buffer("deviation", deviation)
        self.bias = nn.Parameter(torch.zeros(len(CLASSES)), requires_grad=False)
        self.convolution, self.dense = Convolution(48), Dense(84, 64)
        self.heads = nn.ModuleList([_Head(48), _Head(64)])

    def both(self, windows: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of either branch: twice (n, 3)."""
        about = ((context - self.mean) / self.deviation).clamp(-FARTHEST, FARTHEST)
        first, second = self.heads
        return first(self.convolution(windows), about), second(self.dense(windows), about)

    def forward(self, windows: Tensor, context: Tensor) -> Tensor:
        """(n, 2, 120), (n, 21) -> (n, 3) logits."""
        first, second = self.both(windows, context)
        logits: Tensor = (first + second) / 2 + self.bias
        return logits


class Convolution(nn.Module):
    """Three strided convolutions over window, template and their difference."""

    CHANNELS, STRIDES = (32, 40, 56), (4, 2, 2)

    def __init__(self, width: int) -> None:
        super().__init__()
        samples, layers = beat2.LENGTH, []
        for before, after, stride in zip((3, *self.CHANNELS), self.CHANNELS, self.STRIDES, strict=False):
            layers.append(Pairs(samples, before, after, stride))
            samples = layers[-1].samples_out
        self.layers = nn.Sequential(*layers)
        self.out = nn.Sequential(nn.Dropout(0.3), nn.Linear(samples * self.CHANNELS[-1], width), nn.ReLU())

    def forward(self, windows: Tensor) -> Tensor:
        """(n, 2, 120) -> (n, width)."""
        three = torch.cat([windows, windows[:, :1] - windows[:, 1:]], dim=1)  # (n, 3, 120)
        features: Tensor = self.out(self.layers(three.transpose(1, 2)).flatten(1))
        return features


class Dense(nn.Sequential):
    """Two layers over all samples."""

    def __init__(self, hidden: int, width: int) -> None:
        first = [nn.Flatten(), nn.Linear(2 * beat2.LENGTH, hidden), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Dropout(0.3)]
        super().__init__(*first, nn.Linear(hidden, width), nn.ReLU())


class _Head(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.context = nn.Sequential(nn.Linear(len(beat2.CONTEXT), 32), nn.ReLU())
        self.layers = nn.Sequential(
            nn.Dropout(0.3), nn.Linear(width + 32, 48), nn.ReLU(), nn.Dropout(0.15), nn.Linear(48, len(CLASSES))
        )

    def forward(self, shape: Tensor, about: Tensor) -> Tensor:
        """(n, width), (n, 21) -> (n, 3)."""
        logits: Tensor = self.layers(torch.cat([shape, self.context(about)], dim=1))
        return logits
