"""The bundled models in a browser, by ONNX Runtime Web: the answers of the monitor, on windows that it judges."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest

from monitor import beat2, classify, wire
from monitor.class_model import ClassModel
from monitor.classify import Classifier, decide
from monitor.engine import Engine
from tests.monitor.page.browser import launch, node_tool
from tests.monitor.synthetic_ecg import beat_times, make_ecg

if TYPE_CHECKING:
    from playwright.sync_api import Page, Route

JUDGE = Path(__file__).parents[2] / "examples" / "browser" / "judge.js"
SITE = "http://127.0.0.1:9/"
"""Nobody listens there: what is asked for comes from files."""
TOLERANCE = 1e-5
"""Of a probability: both compute in single precision, in another order."""
SECONDS, RATE_HZ = 60, 360.0
Floats = npt.NDArray[np.float32]


class Seen(NamedTuple):
    """What a model was asked by an engine, and what it answered."""

    inputs: dict[str, Floats]
    answers: Floats
    threshold: float


class _Classifier(Classifier):
    """Notes what it is asked."""

    asked: list[tuple[Any, ...]]

    def probabilities(self, windows: Any, rr: Any = None) -> Floats:
        self.__dict__.setdefault("asked", []).append((windows, rr))
        return super().probabilities(windows, rr)


class _ClassModel(ClassModel):
    """Notes what it is asked."""

    asked: list[tuple[Any, ...]]

    def probabilities(self, windows: beat2.Windows, context: beat2.Context) -> Floats:
        self.__dict__.setdefault("asked", []).append((windows, context))
        return super().probabilities(windows, context)


def _watch(name: str, ecgs: list[npt.NDArray[np.int16]]) -> Seen:
    """Let an engine with a model judge ECGs; return all that the model was asked."""
    model = _ClassModel(name) if name == "nsv" else _Classifier(name)
    model.__dict__["asked"] = []  # what warming up asked does not count
    engine = Engine(model)
    for number, ecg in enumerate(ecgs):
        size = round(RATE_HZ)
        engine.describe(f"d{number}", wire.Info(rate_hz=RATE_HZ, lead="II", resolution_uv=5.0), 0.0)
        for seq in range(ecg.size // size):
            packet = wire.Packet(seq, 1e9 + seq, RATE_HZ, ecg[seq * size : (seq + 1) * size])
            engine.feed(f"d{number}", packet, float(seq))
            engine.flush()
    names = [node.name for node in model._session.get_inputs()]
    columns = [[one[k] for one in model.asked] for k in range(len(names))]
    inputs = {name: np.concatenate(column).astype(np.float32) for name, column in zip(names, columns, strict=True)}
    answers = model._session.run(None, inputs)[0]
    return Seen(inputs, answers, model.info.threshold)


def _synthetic() -> list[npt.NDArray[np.int16]]:
    return [make_ecg(beat_times(SECONDS, rr_s), SECONDS, RATE_HZ) for rr_s in (0.6, 0.9, 1.3)]


def _real(data: Path) -> list[npt.NDArray[np.int16]]:
    wfdb = pytest.importorskip("wfdb")
    records = sorted((data / "mitdb").glob("*.hea"))[:6]
    if not records:
        pytest.skip(f"no records in {data / 'mitdb'}")
    end = round(SECONDS * RATE_HZ)
    return [
        wfdb.rdrecord(str(one.with_suffix("")), sampto=end, physical=False).d_signal[:, 0].astype(np.int16)
        for one in records
    ]


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    dist = node_tool("onnxruntime-web", "dist", "ort.wasm.bundle.min.mjs").parent
    kinds = {
        ".js": "text/javascript",
        ".mjs": "text/javascript",
        ".wasm": "application/wasm",
        ".onnx": "application/octet-stream",
    }

    def answer(route: Route) -> None:
        name = route.request.url.removeprefix(SITE)
        if not name:
            route.fulfill(body="<!doctype html><title>models</title>", content_type="text/html")
            return
        folder = {".onnx": classify.MODELS, ".js": JUDGE.parent}.get(Path(name).suffix, dist)
        route.fulfill(body=(folder / name).read_bytes(), content_type=kinds[Path(name).suffix])

    with launch() as browser:
        page = browser.new_page()
        page.route("**/*", answer)
        page.goto(SITE)
        yield page


RUN = """async ({ model, inputs, threshold }) => {
  const ort = await import("/ort.wasm.bundle.min.mjs");
  const { openModel, judge, decide } = await import("/judge.js");
  const floats = (text) => new Float32Array(Uint8Array.from(atob(text), (one) => one.charCodeAt(0)).buffer);
  const session = await openModel(ort, `/${model}.onnx`);
  const given = Object.fromEntries(
    Object.entries(inputs).map(([name, one]) => [name, { data: floats(one.data), shape: one.shape }]));
  const answer = await judge(ort, session, given);
  return { data: [...answer.data], shape: answer.shape, columns: decide(answer, threshold) };
}"""


def _compare(page: Page, name: str, seen: Seen) -> float:
    """Ask the browser the same; return the largest difference of a probability."""
    inputs = {
        key: {"data": base64.b64encode(one.astype("<f4").tobytes()).decode(), "shape": list(one.shape)}
        for key, one in seen.inputs.items()
    }
    got = page.evaluate(RUN, {"model": name, "inputs": inputs, "threshold": seen.threshold})
    answers = np.array(got["data"], np.float32).reshape(got["shape"])
    far = float(np.abs(answers - seen.answers).max())
    assert far <= TOLERANCE
    expected = decide(seen.answers, seen.threshold)
    undecided = np.abs(1 - seen.answers[:, 0].astype(np.float64) - seen.threshold) <= TOLERANCE
    assert (np.array(got["columns"]) == expected)[~undecided].all()
    assert not undecided.mean() > 0.01
    return far


@pytest.mark.parametrize("name", classify.bundled_models())
def test_a_browser_answers_as_the_monitor_does(name: str, page: Page) -> None:
    seen = _watch(name, _synthetic())
    assert len(seen.answers) > 150
    _compare(page, name, seen)


@pytest.mark.parametrize("name", classify.bundled_models())
def test_a_browser_answers_as_the_monitor_does_on_real_beats(name: str, page: Page, ecg_data: Path) -> None:
    seen = _watch(name, _real(ecg_data))
    assert len(seen.answers) > 300
    assert len(np.unique(decide(seen.answers, seen.threshold))) > 1
    print(f"{name}: {len(seen.answers)} beats, largest difference {_compare(page, name, seen):.1e}")


def test_beats_of_no_sense_are_answered_alike(page: Page) -> None:
    seen = _watch("ptb", _synthetic())
    windows = np.zeros((4, 187), np.float32)
    windows[1] = 1.0
    windows[2, ::2] = 1e6
    windows[3] = -1.0
    answers = Classifier("ptb").probabilities(windows)
    _compare(page, "ptb", Seen({"beats": windows}, answers, seen.threshold))
