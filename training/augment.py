"""Data augmentation of the training part: beats as another device, R-peak detector or hour would have recorded them.

Each kind simulates one way in which a live window may differ. Gain needs no simulation: every window is scaled by its
own minimum and maximum. Polarity cannot be simulated on a window: in the inverted signal the R peak would lie
elsewhere, and a different window would have been cut.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as f
from torch import Tensor

from monitor import beat

KINDS = ("shift", "pace", "smoothing", "wander", "motion", "noise", "ending", "rhythm")
"""R peak detected early or late; heart rate and sampling rate; the low-pass filter of a device or resampler; baseline
wander from breathing; electrode motion; muscle and electrode noise; a median RR interval that ends the window
elsewhere; QRS complexes detected early or late, which changes the RR context."""
SHIFT = 1.5
"""Maximum shift of a window's start, in samples."""
PACE = 0.15
"""Maximum relative change of pace."""
SMOOTHING = 0.15
"""Maximum weight of either neighbour in a three-point mean; 0.09 is -3 dB at 45 Hz."""
WANDER = 0.1
"""Maximum amplitude of baseline wander, in window heights."""
WANDER_HZ = (0.05, 0.7)
MOTION = 0.05
"""Maximum standard deviation of the nodes of a random polyline added to the window, in window heights."""
MOTION_NODES = 8
NOISE = 0.02
"""Maximum standard deviation of white noise, in window heights."""
ENDING = 0.06
"""Maximum fraction of a window that may be missing at its end."""
RHYTHM = 0.03
"""Standard deviation of the jitter of each RR interval, as a fraction of it."""


def augment(
    windows: Tensor, rr: Tensor, generator: torch.Generator, without: str | None = None
) -> tuple[Tensor, Tensor]:
    """Augment a batch of beats.

    Parameters
    ----------
    windows, rr
        (n, 187) float32 in 0..1, zero-padded, and (n, 3) their RR context, or NaN.
    generator
        Random number generator, on the same device as `windows`.
    without
        One of `KINDS` to leave out, or None.

    Returns
    -------
    windows, rr
        Augmented, of the same shapes; the windows again in 0..1 and zero-padded.
    """
    n, device = len(windows), windows.device

    def uniform(kind: str, low: float, high: float) -> Tensor:
        drawn = torch.rand(n, 1, generator=generator, device=device)
        return low + (high - low) * drawn if kind != without else torch.full_like(drawn, (low + high) / 2)

    def up_to(kind: str, most: float) -> Tensor:
        return uniform(kind, 0, most) if kind != without else torch.zeros(n, 1, device=device)

    def normal(*shape: int) -> Tensor:
        return torch.randn(n, *shape, generator=generator, device=device)

    time = torch.arange(beat.LENGTH, device=device)  # (187,)
    lengths = beat.LENGTH - (windows.flip(1) > 0).float().argmax(1, keepdim=True)  # (n, 1), before padding
    pace = uniform("pace", 1 - PACE, 1 + PACE)
    x = _sample(windows, time * pace + uniform("shift", -SHIFT, SHIFT), lengths)
    lengths = lengths / pace
    mirrored = torch.cat([x[:, 1:2], x, x[:, -1:]], dim=1)  # (n, 189): the R peak is about symmetric
    a = up_to("smoothing", SMOOTHING)
    x = a * mirrored[:, :-2] + (1 - 2 * a) * x + a * mirrored[:, 2:]
    phase = 2 * math.pi * (uniform("phase", 0, 1) + uniform("phase", *WANDER_HZ) * time / beat.RATE_HZ)
    x = x + up_to("wander", WANDER) * phase.sin()
    line = f.interpolate(normal(1, MOTION_NODES), size=beat.LENGTH, mode="linear", align_corners=True)[:, 0]
    x = x + up_to("motion", MOTION) * line
    x = x + up_to("noise", NOISE) * normal(beat.LENGTH)
    x = _scale(x, time < lengths * (1 - up_to("ending", ENDING)))
    if without != "rhythm":
        rr = rr / pace * (1 + RHYTHM * normal(rr.shape[1]))
    return x, rr


def _sample(windows: Tensor, at: Tensor, lengths: Tensor) -> Tensor:
    """Interpolate each window at the positions `at` (n, 187), linear between samples, mirrored at the R peak."""
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
