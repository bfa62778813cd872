from __future__ import annotations

import numpy as np
import torch

from monitor import beat
from training.augment import STRETCH, augment


def windows(lengths: list[int]) -> torch.Tensor:
    rng = np.random.default_rng(0)
    return torch.from_numpy(np.stack([beat.fit_window([*rng.random(length - 1), 2.0]) for length in lengths]))


def test_varied_beats_are_beat_windows_still() -> None:
    lengths = [10, 100, 187]
    longest = 1 / (1 - STRETCH)
    varied = augment(windows(lengths), torch.Generator().manual_seed(0)).numpy()
    beat.check_windows(varied)
    for window, length in zip(varied, lengths, strict=True):
        assert not window[int(length * longest) + 1 :].any()
        assert window.min() == 0
        assert window.max() == 1


def test_edge_windows_survive() -> None:
    edges = torch.stack([torch.zeros(187), torch.ones(187), torch.tensor([1.0] + [0.0] * 186)])
    beat.check_windows(augment(edges, torch.Generator().manual_seed(0)).numpy())


def test_same_seed_varies_alike_and_another_does_not() -> None:
    x = windows([120] * 4)
    first, second, other = (augment(x, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert not torch.equal(first[0], first[1])


def test_shape_of_a_real_beat_is_kept() -> None:
    time = np.arange(130)
    wave = np.exp(-0.5 * (time / 2) ** 2) + 0.3 * np.exp(-0.5 * ((time - 40) / 8) ** 2)
    x = torch.from_numpy(np.stack([beat.fit_window(wave)] * 64))
    varied = augment(x, torch.Generator().manual_seed(0))
    correlations = [np.corrcoef(a, b)[0, 1] for a, b in zip(x.numpy(), varied.numpy(), strict=True)]
    assert np.median(correlations) > 0.8
