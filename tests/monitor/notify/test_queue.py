"""The queue keeps what it took, once, and hands it out until it is done."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from monitor.alerts.finding import make_id
from monitor.notify.queue import KEEP_DONE_S, NewJob, Queue


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[Queue]:
    made = Queue(tmp_path / "q.sqlite")
    yield made
    made.close()


def _job(id_: str, rank: int = 0, due_s: float = 0.0, target: str = "x") -> NewJob:
    return NewJob(id_, target, rank, id_.encode(), due_s)


def _order(queue: Queue, now_s: float = 1.0) -> list[str]:
    ids = []
    while (job := queue.next("x", now_s)) is not None:
        ids.append(job.id)
        queue.done(job, now_s)
    return ids


def test_the_graver_comes_first_then_what_came_first(queue: Queue) -> None:
    queue.add([_job("low", 2), _job("high-1"), _job("medium", 1), _job("high-2")], 0.0)
    assert _order(queue) == ["high-1", "high-2", "medium", "low"]


def test_what_is_known_is_not_taken_again_even_when_it_is_done(queue: Queue) -> None:
    assert queue.add([_job("a"), _job("a"), _job("a", target="y")], 0.0) == 2
    assert _order(queue) == ["a"]
    assert queue.add([_job("a")], 2.0) == 0
    assert _order(queue) == []


def test_what_was_not_done_is_there_after_a_restart(queue: Queue, tmp_path: Path) -> None:
    queue.add([_job("a"), _job("b")], 0.0)
    first = queue.next("x", 1.0)
    assert first is not None
    queue.done(first, 1.0)
    again = Queue(tmp_path / "q.sqlite")  # as after kill -9: the other was not closed
    assert again.waiting() == {"x": 1}
    left = again.next("x", 1.0)
    assert left is not None
    assert (left.id, left.payload) == ("b", b"b")
    again.close()


def test_what_failed_waits_and_lets_others_go_first(queue: Queue) -> None:
    queue.add([_job("a"), _job("b")], 0.0)
    job = queue.next("x", 1.0)
    assert job is not None
    queue.retry(job, 2.0)
    assert _order(queue, 1.0) == ["b"]
    assert _order(queue, 2.0) == ["a"]


def test_what_is_not_due_waits(queue: Queue) -> None:
    queue.add([_job("a", due_s=10.0)], 0.0)
    assert _order(queue, 9.0) == []
    assert _order(queue, 10.0) == ["a"]


def test_what_was_done_long_ago_is_forgotten(queue: Queue) -> None:
    queue.add([_job("a"), _job("b")], 0.0)
    job = queue.next("x", 0.0)
    assert job is not None
    queue.done(job, 0.0)
    queue.prune(KEEP_DONE_S + 1)
    assert queue.waiting() == {"x": 1}
    assert queue.add([_job("a")], 0.0) == 1


def test_a_file_that_is_no_queue_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "bad.sqlite").write_text("this is no database" * 100)
    with pytest.raises(OSError, match=r"The queue .*bad\.sqlite cannot be used"):
        Queue(tmp_path / "bad.sqlite")


@pytest.mark.parametrize("time_s", [-0.2, 0.0, 12.5, 1.7e9])
@pytest.mark.parametrize("what", ["gap-new", "ventricular-run-end", "pause-commented-7f3a", "pause-silenced-x-1-new"])
def test_a_device_is_forgotten_whatever_its_clock_says_and_none_with_a_longer_name(
    queue: Queue, time_s: float, what: str
) -> None:
    queue.add([_job(f"{make_id('bed', time_s)}-{what}")], 0.0)
    others = [f"{make_id(device, 1.7e9)}-{what}" for device in ("bed-4", "bed-4-x", "bed-4-x-y", "be", "bed_")]
    queue.add([_job(one) for one in others], 0.0)
    queue.forget("bed")
    assert _order(queue) == others
