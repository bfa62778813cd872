"""Beats as another device, detector or hour would have delivered them: for the training part only.

What a live window may differ by: the R peak is found a sample early or late, the device's rate was brought to 125 Hz
by a filter (the PTB windows are plain decimation), the electrodes wander and hiss, the heart beats faster or slower,
and the median RR interval ends the window elsewhere. Gain needs no imitation: every window is scaled by its own
minimum and maximum.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from monitor import beat

SHIFT = 1.5
"""Most samples that a window starts early or late."""
STRETCH = 0.15
"""Largest change of pace."""
SMOOTHING = 0.15
"""Most weight of either neighbour in a three-point mean; 0.09 is -3 dB at 45 Hz."""
WANDER = 0.1
"""Highest amplitude of baseline wander, in window heights."""
WANDER_HZ = (0.05, 0.7)
NOISE = 0.02
"""Highest standard deviation of white noise, in window heights."""
SHORTENING = 0.06
"""Largest share of a window that may be missing at its end."""


def augment(windows: Tensor, generator: torch.Generator) -> Tensor:
    """Vary some windows at random.

    Parameters
    ----------
    windows
        (n, 187) float32 in 0..1, zero-padded.
    generator
        Where the randomness comes from; on the device of `windows`.

    Returns
    -------
    Tensor
        (n, 187) float32, beat windows again: in 0..1, zero-padded.
    """
    n, device = len(windows), windows.device

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(n, 1, generator=generator, device=device)

    time = torch.arange(beat.LENGTH, device=device)  # (187,)
    lengths = beat.LENGTH - (windows.flip(1) > 0).float().argmax(1, keepdim=True)  # (n, 1), before padding
    pace = uniform(1 - STRETCH, 1 + STRETCH)
    x = _sample(windows, time * pace + uniform(-SHIFT, SHIFT), lengths)
    lengths = lengths / pace
    mirrored = torch.cat([x[:, 1:2], x, x[:, -1:]], dim=1)  # (n, 189): the R peak is about symmetric
    a = uniform(0, SMOOTHING)
    x = a * mirrored[:, :-2] + (1 - 2 * a) * x + a * mirrored[:, 2:]
    phase = uniform(0, 2 * math.pi) + 2 * math.pi * uniform(*WANDER_HZ) * time / beat.RATE_HZ
    x = x + uniform(0, WANDER) * phase.sin()
    x = x + uniform(0, NOISE) * torch.randn(x.shape, generator=generator, device=device)
    return _scale(x, time < lengths * uniform(1 - SHORTENING, 1))


def _sample(windows: Tensor, at: Tensor, lengths: Tensor) -> Tensor:
    """Value of each window at the positions `at` (n, 187), linear between samples, mirrored at the R peak."""
    at = torch.minimum(at.abs(), lengths - 1)
    left = at.floor().long()
    right = torch.minimum(left + 1, lengths.long() - 1)
    part = at - left
    return (1 - part) * windows.gather(1, left) + part * windows.gather(1, right)


def _scale(x: Tensor, inside: Tensor) -> Tensor:
    low = x.masked_fill(~inside, math.inf).amin(1, keepdim=True)
    high = x.masked_fill(~inside, -math.inf).amax(1, keepdim=True)
    scaled = (x - low) / (high - low).clamp(min=1e-6)
    return scaled.masked_fill(~inside, 0.0)
