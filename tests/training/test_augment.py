from __future__ import annotations

import numpy as np
import pytest
import torch

from monitor import beat
from training.augment import KINDS, PACE, augment


def windows(lengths: list[int]) -> torch.Tensor:
    rng = np.random.default_rng(0)
    return torch.from_numpy(np.stack([beat.fit_window([*rng.random(length - 1), 2.0]) for length in lengths]))


def contexts(n: int) -> torch.Tensor:
    return torch.tensor([[0.5, 1.1, 0.8]]).repeat(n, 1)


def augmented(x: torch.Tensor, seed: int = 0, without: str | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    return augment(x, contexts(len(x)), torch.Generator().manual_seed(seed), without)


def test_augmented_beats_are_still_beat_windows() -> None:
    lengths = [10, 100, 187]
    longest = 1 / (1 - PACE)
    x = augmented(windows(lengths))[0].numpy()
    beat.check_windows(x)
    for window, length in zip(x, lengths, strict=True):
        assert not window[int(length * longest) + 1 :].any()
        assert window.min() == 0
        assert window.max() == 1


def test_edge_windows_survive() -> None:
    edges = torch.stack([torch.zeros(187), torch.ones(187), torch.tensor([1.0] + [0.0] * 186)])
    beat.check_windows(augmented(edges)[0].numpy())


def test_same_seed_augments_identically_and_another_does_not() -> None:
    x = windows([120] * 4)
    (first, rr), (second, _), (other, _) = (augmented(x, seed) for seed in (1, 1, 2))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(rr[0], rr[1])


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_augmentation_can_be_left_out_and_makes_a_difference(kind: str) -> None:
    x = windows([120] * 4)
    full, full_rr = augmented(x)
    less, less_rr = augmented(x, without=kind)
    assert not torch.equal(torch.cat([full, full_rr], 1), torch.cat([less, less_rr], 1))


def test_rhythm_keeps_a_premature_beat_premature_and_a_faster_heart_has_shorter_intervals() -> None:
    x = windows([120] * 500)
    rr = augmented(x)[1]
    assert (rr[:, 0] < rr[:, 2]).float().mean() > 0.99
    assert rr[:, 2].std() > 0.05
    torch.testing.assert_close(rr.mean(0), torch.tensor([0.5, 1.1, 0.8]), atol=0.02, rtol=0)


def test_unknown_rr_context_stays_unknown() -> None:
    _, rr = augment(windows([120]), torch.full((1, 3), torch.nan), torch.Generator().manual_seed(0))
    assert rr.isnan().all()


def test_shape_of_a_real_beat_is_kept() -> None:
    time = np.arange(130)
    wave = np.exp(-0.5 * (time / 2) ** 2) + 0.3 * np.exp(-0.5 * ((time - 40) / 8) ** 2)
    x = torch.from_numpy(np.stack([beat.fit_window(wave)] * 64))
    correlations = [np.corrcoef(a, b)[0, 1] for a, b in zip(x.numpy(), augmented(x)[0].numpy(), strict=True)]
    assert np.median(correlations) > 0.8
