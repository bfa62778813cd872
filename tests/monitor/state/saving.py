"""Saving and finding in one call, for tests that wait for each transaction."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from monitor.state.store import HourlyRow, OutboxMessage, StateStore, Transaction

WAIT_S = 10.0
"""No store takes longer."""


def save(
    store: StateStore,
    states: Mapping[str, bytes] | None = None,
    published: Sequence[OutboxMessage] = (),
    unconfirmed: Sequence[OutboxMessage] = (),
    confirmed: Sequence[str] = (),
    forgotten: Collection[str] = (),
    hourly: Sequence[HourlyRow] = (),
) -> bool:
    """Submit one transaction and wait for its outcome; nothing else may be open."""
    transaction = Transaction(states or {}, published, unconfirmed, confirmed, forgotten, hourly)
    store.submit(transaction)
    [outcome] = store.done(WAIT_S)
    assert outcome.transaction is transaction
    return outcome.is_saved


def settle(store: StateStore) -> None:
    """Wait until the store has done what it was asked."""
    store.read_outbox()


def retry(store: StateStore) -> None:
    """Have the store opened again if anything is wrong, and wait for it."""
    store.retry()
    settle(store)


def prune(store: StateStore, before_s: float) -> None:
    """Have the store drop what is old, and wait for it."""
    store.prune(before_s)
    settle(store)


def find(store: StateStore, device: str) -> bytes | None:
    """Return the state of one device, if there is one."""
    return store.read_states([device]).get(device)
