"""The schema of the PostgreSQL store, step by step; each step is made once, in a transaction with its number.

A store brings the schema up to date by itself, also while monitors of the version before are writing: a step may add,
but not take away what that version uses. A schema that is newer than the program is refused.

Where the rows lie
------------------
* `device` is written all the time. States are compressed with lz4 by the server and kept in the row up to a whole page,
  so that saving one again costs one row and no chunks elsewhere; half of each page is left free for the next version of
  a row, which then needs no new entry in the index (a HOT update) where a state takes less than half a page. Measured
  with states of 10 kB, which lz4 halves: 100 take 16 ms, as separate chunks 20, with the server's older method 100. A
  server without lz4 stores them as they are.
* `alert` and `hourly` are partitioned by day: what is too old is dropped with its partition.
"""

from __future__ import annotations

SCHEMA = "ecgwatch"
"""Name of the schema that holds all tables."""

MIGRATIONS = [
    """
    CREATE SEQUENCE epoch;
    CREATE TABLE session (
        id bigint PRIMARY KEY, monitor text NOT NULL, committed bigint NOT NULL DEFAULT 0,
        seen_at timestamptz NOT NULL DEFAULT now(), about text NOT NULL DEFAULT ''
    ) WITH (fillfactor = 50);
    CREATE TABLE claim (
        monitor text, slot text, epoch bigint NOT NULL, session bigint NOT NULL,
        claimed_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (monitor, slot)
    );
    CREATE TABLE name_held (name text PRIMARY KEY);
    CREATE TABLE device (
        monitor text, id text, saved_s float8 NOT NULL, state bytea NOT NULL, PRIMARY KEY (monitor, id)
    ) WITH (
        fillfactor = 50, toast_tuple_target = 8160, autovacuum_vacuum_scale_factor = 0.05,
        toast.autovacuum_vacuum_scale_factor = 0.05
    );
    DO $$ BEGIN
        ALTER TABLE device ALTER state SET STORAGE MAIN, ALTER state SET COMPRESSION lz4;
    EXCEPTION WHEN feature_not_supported THEN
        ALTER TABLE device ALTER state SET STORAGE EXTERNAL;
    END $$;
    CREATE TABLE outbox (
        monitor text, id text, slot text NOT NULL, number bigserial, device text NOT NULL,
        published_s float8 NOT NULL, topic text NOT NULL, payload bytea NOT NULL, episode text NOT NULL,
        PRIMARY KEY (monitor, id)
    );
    CREATE INDEX outbox_slot ON outbox (monitor, slot);
    CREATE TABLE alert (
        monitor text NOT NULL, id text NOT NULL, device text NOT NULL, published_s float8 NOT NULL,
        number bigserial, payload bytea NOT NULL, episode text NOT NULL
    ) PARTITION BY RANGE (published_s);
    CREATE INDEX alert_id ON alert (monitor, id);
    CREATE INDEX alert_episode ON alert (monitor, episode);
    CREATE INDEX alert_published ON alert (monitor, published_s);
    CREATE TABLE hourly (
        monitor text, told_hour bigint, hour bigint, device text, what text,
        beats bigint NOT NULL, rr_ms bigint NOT NULL, PRIMARY KEY (monitor, told_hour, hour, device, what)
    ) PARTITION BY RANGE (told_hour);
    CREATE TABLE decision (
        monitor text, device text, saved_s float8 NOT NULL, content bytea NOT NULL, PRIMARY KEY (monitor, device)
    );
    CREATE TABLE request (
        monitor text, id text, number bigserial, made_s float8 NOT NULL, device text NOT NULL, verb text NOT NULL,
        asked_by text NOT NULL, payload bytea NOT NULL, answer text NOT NULL, episode text NOT NULL,
        PRIMARY KEY (monitor, id)
    );
    CREATE INDEX request_made ON request (monitor, made_s);
    CREATE INDEX request_judged ON request (monitor, episode) WHERE verb = 'judge';
    """,
]
"""In order; the version of a schema is how many of them it has seen. Never change one that was released: add one."""
