"""Makes the picture of the page in the README: ``python -m tests.monitor.page.picture``, a minute of the demo.

The devices are the simulator's, the monitor and the page are real; nothing in the picture is drawn by hand.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from simulator.broker import EmbeddedBroker, free_port
from tests.monitor.page.browser import launch

PICTURE = Path(__file__).parents[3] / "docs" / "page.png"
SETTLE_MS = 45_000
"""Until strips are full and alerts have come."""


def main() -> int:
    """Write the picture."""
    port = free_port()
    with EmbeddedBroker(0) as broker, tempfile.TemporaryDirectory() as state, launch() as browser:
        run = ["-m", "monitor", "run", "--broker", str(broker.url), "--state", state, "--page", str(port)]
        play = ["-m", "simulator", "replay", "--broker", str(broker.url), "--devices", "15", "--packet", "0.5"]
        with (
            subprocess.Popen([sys.executable, *run]) as monitor,
            subprocess.Popen([sys.executable, *play, "--profile", "patch", "--profile", "polar-h10"]) as devices,
        ):
            try:
                page = browser.new_page(viewport={"width": 1280, "height": 640}, color_scheme="dark")
                page.wait_for_timeout(SETTLE_MS / 2)
                page.goto(f"http://127.0.0.1:{port}/")
                page.wait_for_timeout(SETTLE_MS)
                page.screenshot(path=PICTURE)
            finally:
                devices.terminate()
                monitor.terminate()
    return 0


if __name__ == "__main__":
    sys.exit(main())
