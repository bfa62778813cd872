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


def find(store: StateStore, device: str) -> bytes | None:
    """Return the state of one device, if there is one."""
    return store.read_states([device]).get(device)
