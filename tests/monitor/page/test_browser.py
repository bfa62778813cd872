"""People before the page: a real browser, server and broker; devices and a monitor as processes, or made up."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from msgspec import structs

from monitor import wire
from monitor.broker.connection import BrokerUrl
from monitor.state.sqlite import SqliteStore
from monitor.state.store import HourlyRow
from simulator.broker import free_port
from tests.monitor.page.browser import DESKTOP, PHONE, FakeMonitor, PageProcess, PageServer
from tests.monitor.page.messages import STRIP, active, alert, state
from tests.monitor.page.test_app import ROW
from tests.monitor.state.saving import save
from tests.monitor.synthetic_ecg import beat_times, make_ecg

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Dialog, Page

SCRIPT = "<img src=x onerror=alert(1)><script>alert(2)</script>"
MOVES = """canvas => {
  const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  let sum = 0;
  for (let i = 3; i < pixels.length; i += 4) sum = (sum * 31 + pixels[i] * i) % 1000003;
  return sum;
}"""
TOP_ROW = """canvas => {
  const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, 3).data;
  return pixels.filter((value, i) => i % 4 === 3 && value).length;
}"""
INK = """canvas => canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data.some(value => value)"""


@pytest.fixture
def monitor(broker: BrokerUrl) -> Iterator[FakeMonitor]:
    fake = FakeMonitor(broker)
    yield fake
    fake.close()


@pytest.fixture
def server(broker: BrokerUrl) -> Iterator[PageServer]:
    started = PageServer(broker)
    yield started
    started.end()


@pytest.fixture
def page(browser: Browser, server: PageServer) -> Iterator[Page]:
    """A tab of a desktop's size."""
    with _tab(browser, server.url) as tab:
        yield tab


@contextmanager
def _tab(browser: Browser, url: str) -> Iterator[Page]:
    """Open a page; an error in a script, or a dialog that one opens, fails the test."""
    context = browser.new_context(viewport=DESKTOP)
    context.set_default_timeout(20_000)
    tab, wrong = context.new_page(), list[str]()
    tab.on("pageerror", lambda error: wrong.append(str(error)))

    def note_dialog(dialog: Dialog) -> None:
        wrong.append(dialog.message)
        dialog.dismiss()

    tab.on("dialog", note_dialog)
    tab.goto(url)
    yield tab
    context.close()
    assert wrong == []


def _stream(monitor: FakeMonitor, device: str, packets: int, start_s: float) -> None:
    monitor.publish(device, "info", b'{"rate_hz": 125, "lead": "II", "resolution_uv": 1}')
    wave = (1000 * np.exp(-(((np.arange(25) - 12) / 3) ** 2))).astype(np.int16)
    for seq in range(packets):
        monitor.publish(device, "samples", wire.encode_packet(wire.Packet(seq, start_s + seq * 0.2, 125.0, wave)))
        time.sleep(0.02)


def test_a_real_monitor_s_devices_strips_and_alerts_reach_the_page(
    browser: Browser, broker: BrokerUrl, tmp_path: Path
) -> None:
    port = free_port()
    run = [
        sys.executable,
        "-m",
        "monitor",
        "run",
        "--broker",
        str(broker),
        "--state",
        str(tmp_path),
        "--page",
        str(port),
    ]
    play = [sys.executable, "-m", "simulator", "replay", "--broker", str(broker), "--devices", "2", "--packet", "0.2"]
    with subprocess.Popen(run) as monitor, subprocess.Popen([*play, "--abnormal", "1"]) as devices:
        try:
            _watch(browser, port)
        finally:
            devices.terminate()
            monitor.terminate()
            monitor.wait(30)


def _watch(browser: Browser, port: int) -> None:
    tab = browser.new_context(viewport=DESKTOP).new_page()
    tab.set_default_timeout(60_000)
    for _ in range(300):  # the page is served once the monitor has compiled its loops
        try:
            tab.goto(f"http://127.0.0.1:{port}/")
            break
        except Exception:
            time.sleep(0.2)
    tab.wait_for_function("() => document.querySelectorAll('.tile').length === 2")
    tab.wait_for_function(
        "() => [...document.querySelectorAll('.tile-rate')].some(one => /^[0-9]/.test(one.textContent))"
    )
    canvas = tab.locator(".tile canvas").first
    before = canvas.evaluate(MOVES)
    tab.wait_for_timeout(500)
    assert canvas.evaluate(MOVES) != before, "the strip stands still"
    tab.get_by_role("link", name="Alerts").first.click()
    tab.locator(".alert-item").first.click()
    assert tab.locator(".paper canvas").first.evaluate(INK)
    tab.locator(".alert-detail").get_by_role("link", name="sim-").click()
    tab.wait_for_function("() => Number(document.querySelector('[data-total]')?.dataset.total) > 5")
    assert tab.locator(".paper.live canvas").nth(1).evaluate(INK)


def test_without_a_monitor_no_number_looks_as_if_it_were_of_now(page: Page, monitor: FakeMonitor) -> None:
    monitor.show(state("bed-1", heart_rate_bpm=96.0, rhythm="regular", judged=1.0))
    page.wait_for_selector(".tile:not([data-unwatched]) .tile-rate:has-text('96')")
    page.click(".tile")
    page.wait_for_selector(".facts:has-text('good')")
    monitor.leave()
    page.wait_for_selector("[data-unwatched] .facts:has-text('Not watched')")
    assert "since" in page.inner_text(".device-head .facts")
    assert "good" not in page.inner_text(".device-head .facts")
    struck = page.evaluate("() => getComputedStyle(document.querySelector('.device-head .rate')).textDecorationLine")
    assert struck == "line-through"
    page.goto(f"{page.url.partition('#')[0]}#/fleet")
    page.wait_for_selector(".tile[data-unwatched]:has-text('not watched')")


def test_a_page_that_was_started_while_the_monitor_stands_still_does_not_know_whether_it_watches(
    browser: Browser, broker: BrokerUrl
) -> None:
    frozen = FakeMonitor(broker, said_s=time.time() - 300)
    frozen.show(state("bed-1", heart_rate_bpm=96.0, time_s=time.time() - 300))
    server = PageServer(broker)
    with _tab(browser, server.url) as page:
        page.wait_for_selector(".tile[data-unwatched]:has-text('watched? not known yet')")
        assert "not known yet" in page.inner_text(".health")
        assert "since" in page.inner_text(".tile")
    server.end()
    frozen.close()


def test_devices_of_a_monitor_that_is_away_are_struck_out_while_others_are_watched(
    page: Page, monitor: FakeMonitor, broker: BrokerUrl
) -> None:
    west = FakeMonitor(broker, "west")
    monitor.show(state("here", monitor="monitor"))
    west.show(state("there", monitor="west"))
    page.wait_for_function("() => document.querySelectorAll('.tile:not([data-unwatched])').length === 2")
    west.leave()
    page.wait_for_selector(".tile[data-unwatched]:has-text('there'):has-text('not watched')")
    assert page.locator(".tile[data-unwatched]").count() == 1
    page.wait_for_selector(".health:has-text('the monitor west is offline: 1 device not watched')")
    west.close()


def test_a_browser_whose_clock_is_wrong_shows_the_right_ages(
    browser: Browser, server: PageServer, monitor: FakeMonitor
) -> None:
    """So does a device's clock: what began a minute ago by it did so, whatever it calls the time."""
    now_s = time.time()
    monitor.show(state("quiet", connection="silent", heard_s=now_s - 130, time_s=now_s))
    context = browser.new_context(viewport=DESKTOP)
    context.add_init_script("const now = Date.now; Date.now = () => now() + 300_000;")
    page = context.new_page()
    page.goto(server.url)
    page.wait_for_selector(".tile:has-text('quiet'):has-text('2 min ago')")
    monitor.alert(
        alert("slow", since_s=1000.0, time_s=1000.0, completed_s=1061.0)
    )  # heard as it comes: it tells the clock
    page.get_by_role("link", name="Alerts").first.click()
    page.wait_for_selector(".alert-item:has-text('for 1 min')")
    context.close()


def test_what_needs_a_person_stands_first(page: Page, monitor: FakeMonitor) -> None:
    monitor.show(state("a", name="Well"), state("b", name="Ill"), state("c", name="Away", connection="offline"))
    monitor.alert(alert("b"))
    page.wait_for_function("() => document.querySelector('.tile')?.textContent.includes('Ill')")
    names = page.locator(".tile-name").all_text_contents()
    assert names == ["Ill", "Away", "Well"]
    assert page.locator("#alarms").inner_text().startswith("!!! HIGH")


def test_the_fleet_is_there_as_soon_as_it_is_known(browser: Browser, server: PageServer, monitor: FakeMonitor) -> None:
    """Time stands still, and no timer ever fires: what waits for either does not come."""
    context = browser.new_context(viewport=DESKTOP)
    context.add_init_script("window.setInterval = () => 0; Performance.prototype.now = () => 10;")
    monitor.show(state("a"), state("b"))
    monitor.alert(alert("b"))
    page = context.new_page()
    page.goto(server.url)
    page.wait_for_function("() => document.querySelectorAll('.tile').length === 2")
    context.close()


def test_devices_that_need_nobody_stand_in_the_order_in_which_people_count(page: Page, monitor: FakeMonitor) -> None:
    monitor.show(*(state(f"x{number}", name=f"Bed {number}") for number in (10, 2, 1)))
    page.wait_for_function("() => document.querySelectorAll('.tile').length === 3")
    assert page.evaluate("() => [...document.querySelectorAll('.tile-name')].map(one => one.textContent)") == [
        "Bed 1",
        "Bed 2",
        "Bed 10",
    ]


def test_alerts_are_listed_with_names_however_late_these_come(page: Page, monitor: FakeMonitor) -> None:
    monitor.alert(alert("a"))
    page.get_by_role("link", name="Alerts").first.click()
    page.wait_for_selector(".alert-item")
    monitor.show(state("a", name="Bed 7", alerts=[active(alert("a"))]))
    page.wait_for_selector(".alert-item:has-text('Bed 7')")


def test_rows_on_a_phone_tell_who_is_ill_of_what_and_who_does_not_send(
    browser: Browser, server: PageServer, monitor: FakeMonitor
) -> None:
    monitor.show(state("a", name="Bed 4, by the window"), state("b", connection="lead-off"))
    monitor.alert(alert("a", kind="ventricular-tachycardia"))
    context = browser.new_context(viewport=PHONE)
    page = context.new_page()
    page.goto(server.url)
    page.get_by_role("button", name="Rows").click()
    monitor.show(state("c", name="Bed 5", connection="silent"))
    monitor.alert(alert("c", kind="device-silent", severity="technical"))
    for text in ("Bed 4, by the window", "Ventricular tachycardia", "electrode off", "Device silent", "no signal"):
        place = page.locator(".tile").get_by_text(text, exact=True)
        place.wait_for()
        assert place.evaluate("element => element.scrollWidth <= element.clientWidth + 1"), f"{text} is cut off"
    context.close()


def test_with_room_for_both_the_gravest_alert_is_open_beside_the_list(page: Page, monitor: FakeMonitor) -> None:
    monitor.alert(alert("a", kind="couplet", severity="low", strip=STRIP))
    monitor.alert(alert("b", kind="asystole", severity="high", strip=STRIP))
    page.wait_for_selector(".alarm")
    page.get_by_role("link", name="Alerts").first.click()
    page.wait_for_selector(".alert-detail canvas")
    assert page.locator(".alert-detail h1").inner_text() == "Asystole"
    monitor.alert(alert("c", kind="ventricular-fibrillation", severity="high", strip=STRIP))
    page.wait_for_function("() => document.querySelectorAll('.alert-item').length === 3")
    assert page.locator(".alert-detail h1").inner_text() == "Asystole", "what somebody reads does not go away"


def test_past_technical_alerts_are_listed_only_where_somebody_wants_them(page: Page, monitor: FakeMonitor) -> None:
    monitor.alert(alert("a", kind="gap", severity="technical"))
    monitor.alert(alert("a", kind="gap", severity="technical", state="end", id="end-1"))
    monitor.alert(alert("a", kind="lead-off", severity="technical"))
    page.get_by_role("link", name="Alerts").first.click()
    button = page.get_by_role("button", name="Show past technical (1)")
    button.wait_for()
    names = page.locator(".alert-item .what")
    assert names.all_text_contents() == ["Lead off"]
    button.click()
    assert names.all_text_contents() == ["Lead off", "Gap"]
    assert page.get_by_role("button", name="Show past technical (1)").get_attribute("aria-pressed") == "true"


def test_what_is_alerted_of_a_device_stands_above_its_strip(page: Page, monitor: FakeMonitor) -> None:
    monitor.alert(alert("a", kind="pause", severity="medium"))
    monitor.alert(alert("b", kind="couplet", severity="low"))
    page.wait_for_selector(".alarm")
    page.goto(page.url.split("#")[0] + "#/device/a")
    own = page.locator(".own-alarms")
    own.locator(".alarm").wait_for()
    assert own.inner_text().startswith("!! MEDIUM")
    assert "Pause for" in own.inner_text()
    assert own.bounding_box()["y"] < page.locator(".paper.live").bounding_box()["y"]  # type: ignore[index]
    own.locator(".alarm").click()
    page.wait_for_function("() => document.querySelector('.alert-detail h1')?.textContent === 'Pause'")


def test_the_heart_rate_from_before_the_page_was_started_is_that_of_the_monitor_s_hours(
    browser: Browser, broker: BrokerUrl, monitor: FakeMonitor, tmp_path: Path
) -> None:
    store = SqliteStore(tmp_path / "state", "monitor")
    save(store, hourly=[HourlyRow(int(time.time() // 3600) - 3, "a", "N", 4000, 4000 * 1000)])
    store.close()
    server = PageServer(broker, tmp_path / "state")
    with _tab(browser, f"{server.url}/#/device/a") as page:
        monitor.show(state("a", time_s=time.time()))
        page.get_by_role("button", name="24 h").click()
        page.wait_for_function("() => document.querySelector('main')?.textContent.includes('the mean of each hour')")
        assert page.locator("canvas.chart").first.evaluate(INK)
    server.end()


def test_what_is_alerted_is_said_with_since_when_on_tile_and_in_the_header(page: Page, monitor: FakeMonitor) -> None:
    now_s = time.time()
    monitor.show(state("a", name="Bed 7"))
    monitor.alert(alert("a", since_s=now_s - 130, time_s=now_s - 127, completed_s=now_s))
    page.wait_for_selector(".tile-alert:has-text('Asystole'):has-text('2 min')")
    page.wait_for_selector(".alarm:has-text('Asystole · Bed 7 · 2 min')")
    page.wait_for_selector("main:has-text('1 device · unanswered: 1 high')")


def test_a_grave_alert_that_is_over_stays_until_somebody_has_seen_it(page: Page, monitor: FakeMonitor) -> None:
    now_s = time.time()
    monitor.show(state("a", name="Bed 7"), state("b"))
    for number, since_s in enumerate((now_s - 600, now_s - 300)):
        told = alert("a", episode=f"e{number}", id=f"{number}", since_s=since_s, time_s=since_s + 3, completed_s=now_s)
        monitor.publish("a", "alerts", wire.encode(told))
        over = structs.replace(told, id=f"{number}-end", state="end", time_s=since_s + 12)
        monitor.publish("a", "alerts", wire.encode(over))
    monitor.publish("b", "alerts", wire.encode(alert("b", severity="medium", completed_s=now_s)))
    monitor.publish("b", "alerts", wire.encode(alert("b", severity="medium", state="end", completed_s=now_s)))
    page.wait_for_selector(".alarm:has-text('Asystole · Bed 7 · over 4 min ago')")
    page.wait_for_selector(".tile[data-latched]:has-text('Bed 7'):has-text('Asystole +1'):has-text('over 4 min ago')")
    assert page.locator(".alarm").count() == 1, "neither each time it happened, nor what is medium"
    page.locator(".alarm").click()
    page.wait_for_selector("h2:has-text('Over, and seen by nobody (2)')")
    page.get_by_role("button", name="Acknowledge all 2").click()
    page.locator("dialog input").fill("Ada")
    page.keyboard.press("Enter")
    _wait_for(lambda: len(monitor.requests) == 2)
    assert {(verb, request.episode) for verb, request in monitor.requests} == {
        ("acknowledge", "e0"),
        ("acknowledge", "e1"),
    }
    for number in (0, 1):
        seen = alert("a", episode=f"e{number}", id=f"{number}-seen", state="acknowledged", by="Ada", time_s=now_s)
        monitor.publish("a", "alerts", wire.encode(seen))
    page.wait_for_function("() => document.querySelectorAll('.alarm').length === 0")
    page.wait_for_selector("h2:has-text('Past (3)')")


def test_an_alert_is_answered_beside_the_live_strip(page: Page, monitor: FakeMonitor) -> None:
    monitor.alert(alert("a", kind="pause", severity="medium"))
    page.wait_for_selector(".alarm")
    page.goto(page.url.split("#")[0] + "#/device/a")
    page.get_by_role("button", name="Acknowledge Pause").click()
    page.locator("dialog input").fill("Ada")
    page.keyboard.press("Enter")
    page.wait_for_selector(".alert-item:has-text('acknowledged by Ada')")
    assert page.get_by_role("button", name="Acknowledge Pause").count() == 0


def test_priority_is_told_by_words_as_well_as_by_colour(page: Page, monitor: FakeMonitor) -> None:
    for severity in ("high", "medium", "low", "technical"):
        monitor.alert(alert(severity, severity=severity))
    page.wait_for_function("() => document.querySelectorAll('.tile .badge').length === 4")
    words = page.locator(".tile .badge").all_text_contents()
    assert words == ["!!! HIGH", "!! MEDIUM", "! LOW", "⚙ TECHNICAL"]


def test_an_alert_is_answered_with_the_keyboard_alone(page: Page, monitor: FakeMonitor) -> None:
    monitor.alert(alert("a", strip=STRIP))
    page.wait_for_selector(".alarm")
    _tab_to(page, "Asystole")
    page.keyboard.press("Enter")
    page.wait_for_selector(".alert-detail canvas")
    _tab_to(page, "Acknowledge")
    page.keyboard.press("Enter")
    page.wait_for_selector("dialog")
    page.keyboard.type("Ada")
    page.keyboard.press("Enter")
    page.wait_for_function("() => document.querySelector('.alert-detail')?.textContent.includes('by Ada')")
    _tab_to(page, "Silence …")
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.type("being washed")
    page.keyboard.press("Enter")
    page.wait_for_selector("dialog", state="detached")
    _tab_to(page, "No")
    page.keyboard.press("Enter")
    _wait_for(lambda: len(monitor.requests) == 3)
    asked = dict(monitor.requests)
    assert list(asked) == ["acknowledge", "silence", "judge"]
    assert (asked["silence"].by, asked["silence"].reason, asked["silence"].for_s) == ("Ada", "being washed", 600)
    assert (asked["silence"].kind, asked["judge"].right) == ("asystole", False)


def _tab_to(page: Page, text: str) -> None:
    """Press Tab until something of that text has the focus."""
    for _ in range(80):
        page.keyboard.press("Tab")
        focused = page.evaluate("() => document.activeElement.textContent.trim()")
        if focused == text or (len(text) > 4 and text in focused and len(focused) < 60):
            return
    raise AssertionError(f"{text!r} cannot be reached with the keyboard")


def _wait_for(condition: Any) -> None:
    until_s = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < until_s
        time.sleep(0.05)


def test_a_limit_is_set_within_its_range_and_what_is_wrong_is_said_at_the_field(
    page: Page, monitor: FakeMonitor
) -> None:
    monitor.show(state("a", monitor="monitor", limits={"pause": {"limit_s": 4.0}}))
    page.goto(page.url.split("#")[0] + "#/device/a")
    page.wait_for_selector("tr:has-text('Heart rate low, below'):has-text('40 /min'):has-text('as all devices')")
    page.wait_for_selector("tr:has-text('Pause, longer than'):has-text('4 s'):has-text('own; all: 3 s')")
    page.get_by_role("button", name="Set a limit …").click()
    dialog = page.locator("dialog")
    assert "Now 40 /min, as for all devices. It can be set from 15 to 300 /min." in dialog.inner_text()
    dialog.get_by_label("Your name, for the record").fill("Ada")
    field = dialog.get_by_label("Value (/min)")
    for text, told in {
        "abc": "“abc” is no number: expected a number from 15 to 300 /min.",
        "": "Give a number from 15 to 300 /min.",
        "400": "400 cannot be set: expected a number from 15 to 300 /min.",
    }.items():
        field.fill(text)
        dialog.get_by_role("button", name="Set").click()
        page.wait_for_function("told => document.querySelector('label + .error')?.textContent === told", arg=told)
        assert field.get_attribute("aria-invalid") == "true"
        assert page.evaluate("() => document.activeElement.name") == "value"
    monitor.refusal = "The limit of a low heart rate must lie below that of a high one."
    field.fill("150")
    dialog.get_by_role("button", name="Set").click()
    page.wait_for_selector("label + .error:has-text('must lie below that of a high one')")
    monitor.refusal = None
    field.fill("35,5")
    dialog.get_by_role("button", name="Set").click()
    dialog.wait_for(state="detached")
    assert monitor.requests[-1][1].limits == {"bradycardia": {"below_bpm": 35.5}}
    page.get_by_role("button", name="Set a limit …").click()
    dialog.get_by_label("Alert").select_option("pause.limit_s")
    dialog.get_by_label("as for all devices: 3 s").check()
    dialog.get_by_role("button", name="Set").click()
    dialog.wait_for(state="detached")
    assert monitor.requests[-1][1].limits == {"pause": {}}


def test_scripts_in_names_and_texts_are_shown_as_text(page: Page, monitor: FakeMonitor) -> None:
    monitor.show(state("a", name=SCRIPT, rhythm=SCRIPT))
    monitor.alert(alert("a", text=SCRIPT, label=SCRIPT, strip=STRIP))
    page.wait_for_selector(".alarm")
    assert SCRIPT in page.locator(".alarm").inner_text()
    page.locator(".alarm").click()
    page.wait_for_function("() => document.querySelector('.alert-detail')?.textContent.includes('onerror')")
    page.goto(page.url.split("#")[0] + "#/device/a")
    page.wait_for_function("() => document.querySelector('h1')?.textContent.includes('onerror')")
    assert page.locator("main img, main script").count() == 0


def test_a_file_is_judged_and_its_name_is_text(page: Page, tmp_path: Path) -> None:
    file = tmp_path / f"{SCRIPT.replace('/', '')}.csv"
    file.write_text(f"{ROW}\n{ROW}\n")
    page.get_by_role("link", name="Try").click()
    page.wait_for_selector("select option", state="attached")
    page.locator("input[type=file]").set_input_files(file)
    page.wait_for_function("() => document.querySelector('main')?.textContent.includes('confidence')")
    assert page.locator(".verdicts button").count() == 2
    assert page.locator("main canvas").evaluate(INK)
    assert page.locator(".drop").get_by_text(file.name).is_visible()
    file.write_text("1,2,3\n")
    page.get_by_label("It holds").select_option("single beats (CSV)")
    page.locator("input[type=file]").set_input_files(file)
    page.wait_for_function("() => document.querySelector('.error')?.textContent.includes('187')")
    assert "confidence" not in page.locator("main").inner_text(), "an error is no verdict"


def test_what_a_recording_does_not_say_is_asked_for_and_nothing_else(page: Page, tmp_path: Path) -> None:
    file = tmp_path / "from my watch.csv"
    times_s = beat_times(20.0, [0.8] * 40)
    file.write_text("\n".join(map(str, make_ecg(times_s, 20.0, 250.0).tolist())))
    page.get_by_role("link", name="Try").click()
    page.wait_for_selector("select option", state="attached")
    page.locator("input[type=file]").set_input_files(file)
    page.wait_for_selector(".error:has-text('from my watch.csv cannot be read as a table: got no column of times.')")
    field = page.get_by_label("Samples a second")
    assert page.evaluate("() => document.activeElement.name") == "rate"
    field.fill("2")
    page.keyboard.press("Enter")
    page.wait_for_selector(".error:has-text('The rate must lie between 50 and 4000 samples a second')")
    field.fill("250")
    page.keyboard.press("Enter")
    page.wait_for_selector("h2:has-text('from my watch.csv: 20 s of lead')")
    assert not field.is_visible()
    assert page.locator(".error").inner_text() == ""


def test_the_page_comes_back_after_a_cut_and_goes_on(browser: Browser, broker: BrokerUrl, monitor: FakeMonitor) -> None:
    server = PageProcess(broker)
    with _tab(browser, server.url) as page:
        monitor.show(state("a", name="Before"), state("gone"))
        page.wait_for_function("() => document.querySelectorAll('.tile').length === 2")
        server.end()
        page.wait_for_function("() => document.querySelector('.health')?.textContent.includes('no connection')")
        monitor.forget("gone")
        server.start()
        monitor.show(state("a", name="After"))
        page.wait_for_function("() => document.querySelector('.tile-name')?.textContent === 'After'")
        page.wait_for_function("() => document.querySelectorAll('.tile').length === 1")
        _stream(monitor, "a", 30, 1_800_000_000.0)
        page.wait_for_function(f"() => ({INK})(document.querySelector('.tile canvas'))")
    server.end()


def test_a_strip_that_began_small_is_drawn_again_so_that_it_fits(page: Page, monitor: FakeMonitor) -> None:
    """A signal in steps of unknown size is fitted to the tile: to the waves that come, not to the quiet before them."""
    monitor.show(state("a"))
    page.wait_for_selector(".tile")
    wave = (2000 * np.exp(-(((np.arange(25) - 12) / 3) ** 2))).astype(np.int16)
    for seq in range(40):
        sent = wave // 100 if seq < 8 else wave
        monitor.publish("a", "samples", wire.encode_packet(wire.Packet(seq, 1.8e9 + seq * 0.2, 125.0, sent)))
        page.wait_for_timeout(60)
    page.wait_for_timeout(500)
    assert page.locator(".tile canvas").evaluate(TOP_ROW) < 40, "peaks are points, and no plateaus"


def test_who_is_not_seen_is_neither_built_nor_subscribed(page: Page, monitor: FakeMonitor) -> None:
    monitor.show(*(state(f"d{i:04d}") for i in range(600)))
    page.wait_for_function("() => document.querySelector('main')?.textContent.includes('600 devices')")
    assert page.locator(".tile").count() < 50
    page.locator(".fleet").evaluate("element => element.scrollTo(0, 1e6)")
    page.wait_for_function("() => document.querySelector('.fleet')?.textContent.includes('d0599')")
    assert page.locator(".tile").count() < 50
    _stream(monitor, "d0599", 30, 1_800_000_000.0)
    page.wait_for_function(f"() => ({INK})([...document.querySelectorAll('.tile')].pop().querySelector('canvas'))")


def test_the_sound_is_off_until_it_is_clicked(page: Page, monitor: FakeMonitor) -> None:
    monitor.alert(alert("a"))
    page.wait_for_selector(".alarm")
    button = page.get_by_role("button", name="for alerts of high priority")
    assert button.get_attribute("aria-pressed") == "false"
    button.click()
    assert button.get_attribute("aria-pressed") == "true"


def test_a_phone_shows_everything_without_scrolling_sideways(
    browser: Browser, server: PageServer, monitor: FakeMonitor
) -> None:
    monitor.alert(alert("a", strip=STRIP))
    tab = browser.new_context(viewport=PHONE, has_touch=True, is_mobile=True).new_page()
    for route in ("#/fleet", "#/alerts", "#/device/a", "#/try", "#/monitor"):
        tab.goto(f"{server.url}/{route}")
        tab.wait_for_selector("main h1, main h2, .fleet")
        assert tab.evaluate("() => document.documentElement.scrollWidth") <= PHONE["width"], route
