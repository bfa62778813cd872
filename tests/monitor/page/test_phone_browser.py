"""A phone in Chromium with a strap behind a Bluetooth that is faked: every sample reaches the broker."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import pytest

from monitor import wire
from monitor.broker.connection import BrokerUrl
from recordings.polar import decode_frame
from tests.monitor.page.browser import PHONE, PageProcess, node_tool
from tests.monitor.page.messages import TOPICS
from tests.recordings.foreign_files import ecg_uv, make_frame, make_frames
from tests.subscriber import Subscriber

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

DEVICE = "phone-anna"
SIGNAL = ecg_uv(130.0)
FRAMES = make_frames(SIGNAL, 130.0)
FAKE = """(() => {
  const frames = FRAMES.map((text) => Uint8Array.from(text.match(/../g), (pair) => parseInt(pair, 16)));
  const view = (bytes) => new DataView(Uint8Array.from(bytes).buffer);
  const strap = window.strap = { sent: 0, connections: 0, written: [], most: 0, named: null };
  const level = { readValue: async () => view([87]) };
  const control = {
    startNotifications: async () => {},
    writeValueWithResponse: async (value) => { strap.written = [...new Uint8Array(value)]; strap.isAsked = true; },
  };
  const data = { startNotifications: async () => {}, oncharacteristicvaluechanged: null };
  const characteristics = {
    battery_level: level,
    "fb005c81-02e7-f387-1cad-8acd2d8df0c8": control,
    "fb005c82-02e7-f387-1cad-8acd2d8df0c8": data,
  };
  const device = new EventTarget();
  device.name = "Polar H10 12345678";
  const gatt = device.gatt = {
    connected: false,
    connect: async () => { gatt.connected = true; strap.connections++; return gatt; },
    disconnect: () => {
      gatt.connected = strap.isAsked = false;
      device.dispatchEvent(new Event("gattserverdisconnected"));
    },
    getPrimaryService: async () => ({ getCharacteristic: async (name) => characteristics[name] }),
  };
  strap.leave = () => gatt.disconnect();
  setInterval(() => {
    if (!strap.isAsked || strap.sent >= Math.min(strap.most, frames.length)) return;
    data.value = view(frames[strap.sent++]);
    data.oncharacteristicvaluechanged();
  }, 5);
  const bluetooth = { requestDevice: async (options) => { strap.named = options; return device; } };
  Object.defineProperty(navigator, "bluetooth", { value: bluetooth });
})()""".replace("FRAMES", json.dumps([frame.hex() for frame in FRAMES]))


@pytest.fixture
def server(broker: BrokerUrl) -> Iterator[PageProcess]:
    process = PageProcess(broker, "--page-phones")
    yield process
    process.end()


@pytest.fixture
def phone(browser: Browser, server: PageProcess) -> Iterator[Page]:
    context = browser.new_context(viewport=PHONE)
    context.set_default_timeout(20_000)
    page, wrong = context.new_page(), list[str]()
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.add_init_script(FAKE)
    page.goto(f"{server.url}/phone")
    page.fill("#name", "anna")
    yield page
    context.close()
    assert wrong == []


def _wait(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    until_s = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until_s, "waited in vain"
        time.sleep(0.05)


def _let(phone: Page, frames: int) -> None:
    """Let the strap send so many frames in all."""
    phone.evaluate("(most) => { strap.most = most; }", frames)
    phone.wait_for_function("() => strap.sent === strap.most")


def _packets(heard: Subscriber) -> dict[int, wire.Packet]:
    found = [wire.decode_packet(payload) for payload in heard.payloads(TOPICS.of(DEVICE, "samples"))]
    return {packet.seq: packet for packet in found}


def test_every_sample_of_the_strap_is_published_whatever_goes_away(
    phone: Page, server: PageProcess, broker: BrokerUrl
) -> None:
    with Subscriber(broker, TOPICS.of(DEVICE, "+")) as heard:
        phone.click("#start")
        _let(phone, 5)
        _wait(lambda: len(_packets(heard)) == 5)
        assert "battery 87 %" in phone.inner_text("main")
        heard.publish(TOPICS.of(DEVICE, "ack"), wire.encode(wire.Ack(seq=3)))
        phone.wait_for_selector("text=5 packets, 2 not yet acknowledged")
        server.end()
        phone.wait_for_selector("text=trying again")
        _let(phone, 9)
        server.start()
        _wait(lambda: len(_packets(heard)) == 9)
        phone.evaluate("strap.leave()")
        _let(phone, len(FRAMES))
        _wait(lambda: len(_packets(heard)) == len(FRAMES))
        assert phone.evaluate("[strap.connections, strap.written]") == [2, list(b"\x02\0\0\x01\x82\0\x01\x01\x0e\0")]
        packets = _packets(heard)
        samples = np.concatenate([packets[seq].samples for seq in range(len(FRAMES))])
        np.testing.assert_array_equal(samples, SIGNAL)
        steps_s = np.diff([packets[seq].start_s for seq in range(len(FRAMES))])
        np.testing.assert_allclose(steps_s, 73 / 130, atol=1e-4)
        assert abs(packets[0].start_s - time.time()) < 60
        assert phone.evaluate("strap.named.filters") == [{"namePrefix": "Polar"}]


def test_frames_are_decoded_as_the_gateway_does(phone: Page) -> None:
    values = np.array([0, 1, -1, 8_388_607, -8_388_608, 255, 256, -256, 65_535, -65_536])
    made = [make_frame(values, 599_618_164_814_402_794), FRAMES[0], FRAMES[-1]]
    decode = """async (text) => {
      const { decodeFrame } = await import("/static/polar.js");
      const bytes = Uint8Array.from(text.match(/../g), (pair) => parseInt(pair, 16));
      const { last_s, samples_uv } = decodeFrame(new DataView(bytes.buffer));
      return [last_s, ...samples_uv];
    }"""
    for frame in made:
        last_s, *samples = phone.evaluate(decode, frame.hex())
        expected = decode_frame(frame)
        assert last_s == pytest.approx(expected.last_s, abs=1e-6)
        assert samples == expected.samples_uv.tolist()
    for damaged in (b"\0", made[0][:10], made[0][:-1], b"\x02" + made[0][1:], made[0][:9] + b"\x01" + made[0][10:]):
        with pytest.raises(Exception, match="no frame of ECG"):
            phone.evaluate(decode, damaged.hex())


def test_a_browser_without_bluetooth_says_what_to_do(browser: Browser, server: PageProcess) -> None:
    page = browser.new_page()
    page.add_init_script("Object.defineProperty(navigator, 'bluetooth', { value: undefined })")
    page.goto(f"{server.url}/phone")
    page.wait_for_selector("text=This browser has no Web Bluetooth")
    assert page.is_disabled("#start")
    page.close()


def test_the_phone_page_is_accessible(phone: Page) -> None:
    axe = node_tool("axe-core", "axe.min.js").read_text(encoding="utf-8")
    phone.evaluate(axe)
    found = phone.evaluate("axe.run()")["violations"]
    assert [(one["id"], [node["html"] for node in one["nodes"]]) for one in found] == []
