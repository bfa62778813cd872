"""Which of many beats begin something: the conditions of all detectors, looked up in one compiled loop.

A detector says by `Detector.select` which beats begin something: comparisons of columns with numbers, joined by ``&``,
``|`` and ``~``. It is asked once, with stand-ins for the columns, which note what is compared; and what they have noted
is looked up for all detectors in one go. With numpy, comparison by comparison, that took as long for one beat as the
rest of the engine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, NoReturn

import numpy as np
import numpy.typing as npt
from numba import njit

from monitor.alerts.finding import Beats, Rhythm

COLUMNS = ("verdicts", "probability", "ventricular", "shape", "unusual", "is_poor", "outdated", "doubtful", "rr_s")
"""Of `Beats`, besides those of its rhythm, that can be compared."""
LOWER, LOWER_OR_EQUAL, HIGHER, HIGHER_OR_EQUAL, EQUAL, UNEQUAL = range(6)
Bools = npt.NDArray[np.bool_]


class Comparison(NamedTuple):
    """A column against a number."""

    column: str
    relation: int
    number: float
    is_denied: bool = False
    """Whether it must not hold; of NaN nothing holds but that it is unequal."""


class Condition:
    """Holds for beats for which all comparisons of any of its clauses hold."""

    __slots__ = ("clauses",)

    def __init__(self, clauses: Sequence[tuple[Comparison, ...]]) -> None:
        self.clauses = tuple(clauses)

    def __or__(self, other: Condition) -> Condition:
        return Condition((*self.clauses, *other.clauses))

    def __and__(self, other: Condition) -> Condition:
        return Condition([(*one, *two) for one in self.clauses for two in other.clauses])

    def __invert__(self) -> Condition:
        denied = Condition([()])
        for clause in self.clauses:
            denied = denied & Condition([(one._replace(is_denied=not one.is_denied),) for one in clause])
        return denied

    def __bool__(self) -> NoReturn:
        raise TypeError("Conditions are joined by & and |, not by and, or and not.")


class Column(Condition):
    """Stands in for an array of a value of each beat; as a condition, for those where it is not 0."""

    __slots__ = ("_name",)
    __hash__ = None  # type: ignore[assignment] # compared, it is a condition

    def __init__(self, name: str) -> None:
        super().__init__([(Comparison(name, UNEQUAL, 0.0),)])
        self._name = name

    def __lt__(self, number: float) -> Condition:
        return self._compare(LOWER, number)

    def __le__(self, number: float) -> Condition:
        return self._compare(LOWER_OR_EQUAL, number)

    def __gt__(self, number: float) -> Condition:
        return self._compare(HIGHER, number)

    def __ge__(self, number: float) -> Condition:
        return self._compare(HIGHER_OR_EQUAL, number)

    def __eq__(self, number: float) -> Condition:  # type: ignore[override]
        return self._compare(EQUAL, number)

    def __ne__(self, number: float) -> Condition:  # type: ignore[override]
        return self._compare(UNEQUAL, number)

    def _compare(self, relation: int, number: float) -> Condition:
        return Condition([(Comparison(self._name, relation, float(number)),)])


class _Columns:
    """Stands in for `Beats`."""

    def __init__(self) -> None:
        self.rhythm = Rhythm(*map(Column, Rhythm._fields))  # type: ignore[arg-type] # stand-ins
        for name in COLUMNS:
            setattr(self, name, Column(name))


def find(select: Callable[[Any], Any]) -> Condition | None:
    """Return what a detector's `select` compares; None if it does anything else."""
    try:
        found = select(_Columns())
    except (AttributeError, TypeError):
        return None
    return found if isinstance(found, Condition) else None


_TEST = np.dtype(
    [
        ("row", np.int64),  # of the result
        ("is_first", np.bool_),  # of its clause
        ("is_last", np.bool_),
        ("column", np.int64),
        ("relation", np.int64),
        ("number", np.float64),
        ("is_denied", np.bool_),
    ],
    align=True,
)


class Conditions:
    """Conditions that are looked up together.

    Parameters
    ----------
    conditions
        A row of the result each; None holds for no beat.
    """

    def __init__(self, conditions: Sequence[Condition | None]) -> None:
        tests = [
            (row, k == 0, k == len(clause) - 1, one)
            for row, condition in enumerate(conditions)
            for clause in (condition.clauses if condition is not None else ())
            for k, one in enumerate(clause)
        ]
        self._names = sorted({one.column for *_, one in tests})
        self._rows = len(conditions)
        columns = {name: k for k, name in enumerate(self._names)}
        self._tests = np.array(
            [(row, first, last, columns[one.column], *one[1:]) for row, first, last, one in tests], _TEST
        )

    def look_up(self, beats: Beats) -> Bools:
        """Return for which beats each holds: (conditions, n)."""
        n, rhythm = beats.verdicts.size, beats.rhythm
        holds = np.zeros((self._rows, n), np.bool_)
        if self._names and n:
            columns = [getattr(rhythm if name in Rhythm._fields else beats, name) for name in self._names]
            _look_up(self._tests, np.concatenate(columns, dtype=np.float64).reshape(-1, n), holds)
        return holds


def warm_up() -> None:
    """Load the compiled loop, or compile it if that was never done here."""
    _look_up(np.zeros(0, _TEST), np.zeros((0, 0)), np.zeros((0, 0), np.bool_))


@njit(cache=True)
def _look_up(tests: Any, columns: Any, holds: Any) -> None:
    for i in range(columns.shape[1]):
        is_so = True
        for k in range(tests.size):
            test = tests[k]
            is_so = is_so or test.is_first
            if is_so:
                is_so = _compares(columns[test.column, i], test.relation, test.number) != test.is_denied
            if is_so and test.is_last:
                holds[test.row, i] = True


@njit(cache=True)
def _compares(value: float, relation: int, number: float) -> bool:
    if relation == LOWER:
        return value < number
    if relation == LOWER_OR_EQUAL:
        return value <= number
    if relation == HIGHER:
        return value > number
    if relation == HIGHER_OR_EQUAL:
        return value >= number
    return (value == number) == (relation == EQUAL)
