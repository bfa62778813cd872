from __future__ import annotations

import numpy as np
import pytest

from monitor import beat2

WIDTH = len(beat2.CONTEXT)


def test_inputs_of_the_right_form_pass_as_float32() -> None:
    windows, context = beat2.check_inputs(np.ones((3, 2, 120)), np.zeros((3, WIDTH)))
    assert windows.dtype == context.dtype == np.float32
    assert windows.shape == (3, 2, 120)


def test_no_beats_are_inputs_as_well() -> None:
    windows, context = beat2.check_inputs(np.zeros((0, 2, 120)), np.zeros((0, WIDTH)))
    assert len(windows) == len(context) == 0


@pytest.mark.parametrize("shape", [(3, 120), (3, 1, 120), (3, 2, 187)])
def test_windows_without_a_template_or_of_another_length_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="must have the shape"):
        beat2.check_inputs(np.zeros(shape), np.zeros((3, WIDTH)))


def test_context_of_another_number_of_beats_is_refused() -> None:
    with pytest.raises(ValueError, match=f"Context must have the shape \\(3, {WIDTH}\\): got \\(2, {WIDTH}\\)"):
        beat2.check_inputs(np.zeros((3, 2, 120)), np.zeros((2, WIDTH)))


@pytest.mark.parametrize("value", [np.nan, np.inf, 4.5, -4.5])
def test_a_beat_out_of_bounds_is_named(value: float) -> None:
    windows = np.zeros((3, 2, 120))
    windows[1, 0, 7] = value
    with pytest.raises(ValueError, match="beat 1 is not"):
        beat2.check_inputs(windows, np.zeros((3, WIDTH)))


def test_context_that_is_not_finite_is_refused() -> None:
    context = np.zeros((3, WIDTH))
    context[2, 0] = np.nan
    with pytest.raises(ValueError, match="beat 2 is not"):
        beat2.check_inputs(np.zeros((3, 2, 120)), context)
