"""Nothing is compiled once packets come: the first one of a device would wait for seconds."""

from __future__ import annotations

import gc
import subprocess
import sys

import numpy as np
from numba.core.registry import CPUDispatcher

from monitor import wire
from monitor.engine import Engine, warm_up
from monitor.panel import Panel, load_panel
from tests.monitor.synthetic_ecg import beat_times, make_ecg

RATE_HZ = 250.0


def test_nothing_is_compiled_once_packets_come() -> None:
    code = f"from {__name__} import find_compiled_late; print(*find_compiled_late(), sep='\\n')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=True)
    assert done.stdout.split() == []


def find_compiled_late() -> list[str]:
    """Names of the loops that take arguments which `warm_up` did not give them; to be asked in a new process."""
    warm_up()
    panel = load_panel()  # tries its models: compiles what only they need
    before = _signatures()
    for devices in (1, 3):
        _watch(panel, devices)
    return [name for name, signatures in _signatures().items() if signatures - before.get(name, set())]


def _signatures() -> dict[str, set[str]]:
    """Of the monitor's compiled functions that Python calls."""
    loops = [one for one in gc.get_objects() if isinstance(one, CPUDispatcher) and one.__module__.startswith("monitor")]
    return {f"{one.__module__}.{one.py_func.__name__}": set(map(str, one.nopython_signatures)) for one in loops}


def _watch(panel: Panel, devices: int) -> None:
    """An ECG, an electrode that comes off, a device that is saved and one that goes on there."""
    signal = np.concatenate([make_ecg(beat_times(40), 40, RATE_HZ), np.zeros(10 * round(RATE_HZ))])
    engine = Engine(panel)
    for second in range(50):
        samples = signal[round(second * RATE_HZ) : round((second + 1) * RATE_HZ)].astype(np.int16)
        packet = wire.decode_packet(wire.encode_packet(wire.Packet(second, 1e9 + second, RATE_HZ, samples)))
        for device in range(devices):
            engine.feed(str(device), packet, float(second))
        engine.flush()
    engine.look(50.0)
    engine.restore("restored", engine.save("0"), 50.0)
