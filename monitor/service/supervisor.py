"""The supervisor of several worker processes that share the devices.

Each worker is a service with a connection of its own. It hears the packets of all devices, and handles those of its
shard: so a device always meets the same worker, no packet can fall between two, and nobody has to be notified when a
device appears. Hearing a packet and ignoring it costs a third of handling it.

A worker that dies is restarted, and continues where the states were saved. So is one that hangs: it sends a liveness
message every second or so, and is killed if none comes for `HUNG_S`. The workers' figures are added up to one status;
of a worker that is silent, only its counters are included, not its devices. If this process dies, its workers end.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, replace
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from typing import Any

import msgspec

from monitor import counters, wire
from monitor.broker import connection
from monitor.broker.backoff import Backoff
from monitor.service import systemd
from monitor.service.logs import set_up
from monitor.service.metrics import LATE_S, HealthBoard, serve
from monitor.service.settings import ALIVE_S, NOTE_S, STATUS_S, VERSION, ServiceSettings
from monitor.service.stale_sessions import end_stale_sessions
from monitor.state.location import locate
from monitor.summary import add_up

log = logging.getLogger(__name__)

STEADY_S = 60.0
"""A worker that has run for so long did not die at once."""
STOP_S = 15.0
"""How long workers may take to stop."""
LIVENESS_S = 1.0
"""How often a worker whose loop turns says so."""
HUNG_S = 30.0
"""A worker that has sent nothing for so long hangs. The slowest thing the loop does is to connect: some seconds."""
TURN_S = 1.0
"""Most silence that one turn can add: while this process was stopped itself, it could hear nothing."""
_processes = multiprocessing.get_context("spawn")


class _Worker:
    """One worker, and its successors."""

    def __init__(self, settings: ServiceSettings) -> None:
        self._settings = settings
        self._backoff = Backoff()
        self.again_at_s = 0.0
        self.deaths = self.hung = 0
        self.past: Counter[str] = Counter()
        """Counters of its predecessors that have died."""
        self.status: wire.MonitorStatus | None = None
        self.start()

    def start(self) -> None:
        """Start it."""
        self.status = None
        self.silence_s: float | None = None  # not known: while it imports or compiles it sends nothing
        self.started_s = time.monotonic()
        self.reports, sender = _processes.Pipe(duplex=False)
        self.process = _processes.Process(target=_work, args=(self._settings, sender), name=self._settings.own_name)
        with _ignoring_interrupts():
            self.process.start()
        sender.close()

    def reload(self) -> None:
        """Let it read the configuration file again, which one that starts does anyway."""
        if self.process.is_alive() and self.process.pid is not None:
            os.kill(self.process.pid, signal.SIGHUP)

    def hear(self) -> None:
        """Read its reports, and its liveness messages, which are empty."""
        with contextlib.suppress(EOFError, OSError):  # it has died; that is handled elsewhere
            while self.reports.poll():
                report = self.reports.recv_bytes()
                self.silence_s = 0.0
                if report:
                    self.status = msgspec.msgpack.decode(report, type=wire.MonitorStatus)

    def turn(self, now_s: float, passed_s: float) -> None:
        """Restart it if that is due; else read its reports, and note whether it hangs or has died."""
        if self.reports.closed:
            if now_s >= self.again_at_s:
                self.start()
            return
        self.hear()
        self.wait(passed_s)
        if not self.process.is_alive():
            self.on_exit()

    def wait(self, seconds: float) -> None:
        """Note that time has passed, and kill it if it hangs; that it died is handled elsewhere."""
        if self.silence_s is None:
            return
        self.silence_s += seconds
        if self.silence_s > HUNG_S:
            log.error("%s has not responded for %.0f s; killing it", self.process.name, self.silence_s)
            self.process.kill()
            self.hung += 1
            self.silence_s = None

    @property
    def report(self) -> wire.MonitorStatus | None:
        """Its last report, unless it is silent."""
        return self.status if self.silence_s is not None and self.silence_s < LATE_S else None

    @property
    def serves(self) -> bool:
        """Whether it says that it is connected."""
        return self.report is not None and self.report.state != "offline"

    @property
    def counts(self) -> Counter[str]:
        """What it has counted, and those before it."""
        return self.past + Counter({} if self.status is None else self.status.counts)

    def on_exit(self) -> None:
        """Keep the counters of the process that has died, and note when to restart it."""
        self.hear()
        if self.status is not None:
            self.past.update(self.status.counts)
            self.status = None
        if time.monotonic() - self.started_s > STEADY_S:
            self._backoff.reset()
        self.again_at_s = time.monotonic() + self._backoff.next_s()
        self.deaths += 1
        self.reports.close()
        log.error("%s has died (exit status %s); restarting it", self.process.name, self.process.exitcode)


class Workers:
    """The workers of a monitor, and their supervisor.

    Parameters
    ----------
    settings
        How each runs, but for its shard.
    count
        How many there are.

    Raises
    ------
    ValueError
        Settings that cannot work; see `monitor.service.loop.Service`.
    """

    def __init__(self, settings: ServiceSettings, count: int) -> None:
        self._settings = settings
        self._shards = [replace(settings, shard=(number, count)) for number in range(count)]
        self._topic = wire.Topics(settings.prefix).monitor_status(settings.status_name)
        self._since_s = time.time()
        self._stopping = self._is_reloading = False
        self._note_due_s = 0.0
        self.board = HealthBoard()
        self._client = connection.make_client(
            settings.broker,
            f"ecgwatch-{settings.name}-workers"
            + (f"-{os.getpid()}" if settings.state is None or settings.source is not None else ""),
            password=connection.read_password(settings.broker, settings.password_file),
            **asdict(settings.tls),
        )

    def stop(self) -> None:
        """Ask all workers to finish and return; may be called from a signal handler."""
        self._stopping = True

    def reload(self) -> None:
        """Ask all workers to read the configuration file again; may be called from a signal handler."""
        self._is_reloading = True

    def run(self) -> None:
        """Keep them running until `stop` is called.

        Raises
        ------
        ConnectionError
            The broker cannot be reached at the start, or a worker cannot start.
        OSError
            Metrics cannot be served where they should be.
        """
        with serve(self._settings.metrics, self.board), self._alone():
            if not self._stopping:
                self._run()

    def _alone(self) -> AbstractContextManager[None]:
        """Wait for another monitor of this name, unless there is nothing to share, or all share it."""
        if self._settings.state is None or self._settings.source is not None:
            return contextlib.nullcontext()
        return locate(self._settings.state).hold(f"{self._settings.name}.workers", self._is_told_to_stop)

    def _is_told_to_stop(self) -> bool:
        """Whether to stop, asked while another monitor is waited for."""
        self.board.turned_s = time.monotonic()
        return self._stopping

    def _run(self) -> None:
        self._client.will_set(self._topic, wire.encode(self._blank("offline")), qos=1, retain=True)
        connection.connect(self._client, self._settings.broker)
        self._client.loop_start()
        end_stale_sessions(self._settings, {shard.own_name for shard in self._shards})
        workers = [_Worker(shard) for shard in self._shards]
        try:
            self._watch(workers)
        finally:
            systemd.notify("STOPPING=1")
            self._end(workers)

    def _watch(self, workers: list[_Worker]) -> None:
        ready, status_due, turned_s = False, 0.0, time.monotonic()
        while not self._stopping:
            wait([worker.reports for worker in workers if not worker.reports.closed], timeout=0.25)
            if self._stopping:
                break  # whatever ends this process may end its workers as well: none of them has died
            now = time.monotonic()
            if self._is_reloading:
                self._is_reloading = False
                for worker in workers:
                    worker.reload()
            passed_s, turned_s = min(TURN_S, now - turned_s), now
            for worker in workers:
                worker.turn(now, passed_s)
                if worker.reports.closed and not ready:
                    raise ConnectionError(f"{worker.process.name} could not start; see its log above.")
            self._note(workers, now)
            if not ready and all(worker.serves for worker in workers):
                ready, status_due = True, 0.0
                systemd.notify("READY=1")
            if ready and now >= status_due:
                systemd.notify("WATCHDOG=1")
                self._publish(workers, self._state(workers))
                status_due = now + min(STATUS_S, ALIVE_S)

    def _note(self, workers: list[_Worker], now: float) -> None:
        """Update what is served to those who ask for metrics."""
        ready = all(worker.serves for worker in workers) and self._client.is_connected()
        self.board.turned_s, self.board.ready = now, ready
        if self._settings.metrics is not None and now >= self._note_due_s:
            self.board.note(self._sum(workers, self._state(workers)))
            self._note_due_s = now + NOTE_S

    def _state(self, workers: list[_Worker]) -> wire.MonitorState:
        """As long as one of them reports, some devices are watched."""
        return "online" if any(worker.report is not None for worker in workers) else "offline"

    def _end(self, workers: list[_Worker]) -> None:
        """Stop all, and publish the offline status with their last figures."""
        for worker in workers:
            if worker.process.is_alive():
                worker.process.terminate()
        until_s = time.monotonic() + STOP_S
        for worker in workers:
            worker.process.join(max(0.1, until_s - time.monotonic()))
            if worker.process.is_alive():
                worker.process.kill()
            if not worker.reports.closed:
                worker.hear()
        published = self._publish(workers, "offline")
        with contextlib.suppress(RuntimeError):  # there is no broker
            published.wait_for_publish(5)
        self._client.disconnect()
        self._client.loop_stop()

    def _publish(self, workers: list[_Worker], state: wire.MonitorState) -> Any:
        return self._client.publish(self._topic, wire.encode(self._sum(workers, state)), qos=1, retain=True)

    def _sum(self, workers: list[_Worker], state: wire.MonitorState) -> wire.MonitorStatus:
        status = add_up(self._blank(state), [worker.report for worker in workers if worker.report is not None])
        counts = sum((worker.counts for worker in workers), Counter[str]())
        counts[counters.WORKER_RESTARTS] = sum(worker.deaths for worker in workers)
        counts[counters.WORKERS_KILLED] = sum(worker.hung for worker in workers)
        return msgspec.structs.replace(status, counts=dict(counts), time_s=round(time.time(), 3))

    def _blank(self, state: wire.MonitorState) -> wire.MonitorStatus:
        return wire.MonitorStatus(state=state, version=VERSION, model="", model_sha256="", since_s=self._since_s)


@contextmanager
def _ignoring_interrupts() -> Iterator[None]:
    """Start processes that ignore Ctrl-C, which a terminal sends to all of them: the parent ends its workers.

    SIGHUP waits until they know what to do on it.
    """
    resource_tracker.ensure_running()  # it would be started here, and lift the block too early
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _work(settings: ServiceSettings, reports: Connection) -> None:
    """Run one worker."""
    from monitor.service.run import Service  # imports all that is heavy, which the parent does not need

    set_up(settings.log, settings.own_name, named=True)
    os.environ.pop(systemd.SOCKET_VARIABLE, None)  # the parent speaks for all
    try:
        send = _sender(reports)
        service = Service(settings, lambda status: send(msgspec.msgpack.encode(status)))
        signal.signal(signal.SIGTERM, lambda *_: service.stop())
        signal.signal(signal.SIGHUP, lambda *_: service.reload())
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
        threading.Thread(target=_end_with_parent, args=(service.stop,), daemon=True).start()
        threading.Thread(target=_show_liveness, args=(service.board, send), daemon=True).start()
        service.run()
    except (ValueError, OSError) as error:
        log.error("%s", error)
        raise SystemExit(2) from None
    except Exception:
        log.exception("the worker ends because of an internal error")
        raise SystemExit(1) from None


def _sender(reports: Connection) -> Callable[[bytes], None]:
    lock = threading.Lock()

    def send(report: bytes) -> None:
        with contextlib.suppress(OSError), lock:  # the parent is gone; that is handled elsewhere
            reports.send_bytes(report)

    return send


def _show_liveness(board: HealthBoard, send: Callable[[bytes], None]) -> None:
    """Send a liveness message as long as the loop turns."""
    turned_s = board.turned_s
    while True:
        time.sleep(LIVENESS_S)
        if board.turned_s != turned_s:
            turned_s = board.turned_s
            send(b"")


def _end_with_parent(stop: Callable[[], None]) -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
    stop()
