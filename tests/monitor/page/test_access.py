"""Every view, in both themes, judged by axe-core: names, roles, contrast, order."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from tests.brokers import Broker, find_mosquitto
from tests.monitor.page.browser import DESKTOP, FakeMonitor, PageServer, launch, node_tool
from tests.monitor.page.messages import STRIP, alert, beat, state

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

ROUTES = ("#/fleet", "#/alerts", "#/alerts/a%3Aasystole", "#/device/a", "#/try", "#/monitor")


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Browser, str]]:
    """A browser, and a page with something of everything on it."""
    find_mosquitto()
    with launch() as browser:
        broker = Broker("mosquitto", tmp_path_factory.mktemp("broker"))
        monitor, server = FakeMonitor(broker.url), PageServer(broker.url)
        monitor.show(state("b", name="Bed 2", connection="lead-off"), state("c", rhythm="sinus rhythm", judged=0.5))
        for severity in ("high", "medium", "low", "technical"):
            kind = {"high": "asystole", "medium": "pause", "low": "couplet", "technical": "gap"}[severity]
            monitor.alert(alert("a", kind=kind, severity=severity, strip=STRIP))
        for i in range(5):
            monitor.publish("a", "beats", _encoded(beat("a", 1_800_000_000.0 + i)))
        yield browser, server.url
        server.end()
        monitor.close()
        broker.end()


def _encoded(message: Any) -> bytes:
    from monitor import wire

    return wire.encode(message)


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_every_view_can_be_read_by_everybody(shown: tuple[Browser, str], theme: Any) -> None:
    browser, url = shown
    context = browser.new_context(viewport=DESKTOP, color_scheme=theme, reduced_motion="reduce", bypass_csp=True)
    page = context.new_page()
    page.goto(url)
    page.add_script_tag(content=node_tool("axe-core", "axe.min.js").read_text(encoding="utf-8"))
    wrong = {route: _examine(page, route) for route in ROUTES}
    context.close()
    assert {route: found for route, found in wrong.items() if found} == {}


def test_the_login_can_be_read_by_everybody(shown: tuple[Browser, str]) -> None:
    browser, url = shown
    context = browser.new_context(bypass_csp=True)
    page = context.new_page()
    page.goto(f"{url}/login")
    page.add_script_tag(content=node_tool("axe-core", "axe.min.js").read_text(encoding="utf-8"))
    found = page.evaluate("() => axe.run()")["violations"]
    context.close()
    assert [_explain(one) for one in found] == []


def _examine(page: Page, route: str) -> list[str]:
    page.evaluate("route => { location.hash = route }", route)
    page.wait_for_selector(".alarm")
    page.wait_for_timeout(300)
    return [_explain(one) for one in page.evaluate("() => axe.run()")["violations"]]


def _explain(violation: dict[str, Any]) -> str:
    nodes = [f"{node['html'][:160]} {node['failureSummary'][:300]}" for node in violation["nodes"][:3]]
    return f"{violation['id']}: {violation['help']}: {nodes}"
