"""What the page's scripts ask for beside the WebSocket: JSON in, JSON out."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from monitor import classify, panel, wire
from monitor.page.asking import Asker
from monitor.page.fleet import as_detail
from monitor.page.hub import Hub
from monitor.page.limits import settable
from monitor.page.past import Past
from monitor.page.sessions import Session

MOST_FOR_BEATS, MOST_FOR_RECORDINGS = 3 * 1024**3 // 2, 4 * 1024**3
"""Bytes of memory."""
MOST_CPU_S = 60
TRIAL_S = 90.0
"""Longest time that an uploaded file may take."""
ANALYSIS = "analysis"
"""The package whose command ``analyse`` reads recordings; the monitor does not import it, and goes without."""
SUFFIX = r"\.[A-Za-z0-9]{1,8}"
"""What is taken of an uploaded file's name: it tells the format."""
TOLD = {
    "rate": "Say how many samples a second there are.",
    "lead": "Say which column or signal is the ECG, by its name or its number.",
    "unit": "Say in which unit the signal is: V, mV, uV or nV.",
}
"""What a person may have to say of a recording, by the flag of the command that reads it, and how they are asked."""
ASKED_BY = re.compile(r":? (?:expected )?--(rate|lead|unit)\b.*")
"""Where a command's error says which flag would help."""
COMMAND_REFUSES = 2
"""Exit status of our commands after an error that is the user's to mend."""
VERBS = tuple(verb for verb in wire.VERBS if verb != "forget")
"""What a person may ask of the monitor here: to have a device forgotten takes a command."""
ASKED = ("device", "episode", "kind", "for_s", "reason", "name", "limits", "right", "text")
"""Fields of a request that the browser may set."""


class Api:
    """The handlers.

    Parameters
    ----------
    hub
        What came from the broker.
    asker
        Sends requests to the monitor.
    past
        What the monitor has kept.
    refused
        What was refused so far, by its reason.
    """

    def __init__(self, hub: Hub, asker: Asker, past: Past, refused: Counter[str]) -> None:
        self._hub, self._asker, self._past, self._refused = hub, asker, past, refused
        self._trial = asyncio.Semaphore(1)
        self.asked: Counter[str] = Counter()
        """Requests by what was asked."""

    async def device(self, request: Request) -> Response:
        """Trend and counts of a device."""
        device = request.path_params["device"]
        row = self._hub.fleet.rows.get(device)
        if row is None:
            return _error("This device is not known here.", 404)
        info = self._hub.info(device)
        hours = await asyncio.to_thread(self._past.hours, device, row.ahead_s)
        return _json({"trend": self._hub.trend(device).as_json(), "info": info, "hours": hours})

    async def limits(self, request: Request) -> Response:
        """What limits a device has, and what they can be set to."""
        row = self._hub.fleet.rows.get(request.path_params["device"])
        if row is None:
            return _error("This device is not known here.", 404)
        status = self._hub.fleet.monitors.get(row.monitor or self._asker.monitor)
        return _json(settable({} if status is None else status.limits, row.limits))

    async def alert(self, request: Request) -> Response:
        """An alert with its strips."""
        detail = as_detail(self._hub.fleet, request.query_params.get("episode", ""))
        return _error("This alert is not known here.", 404) if detail is None else _json(detail)

    async def monitor(self, _request: Request) -> Response:
        """Models, and what the page has refused."""
        models = await asyncio.to_thread(list_models)
        return _json({"models": models, "refused": self._refused, "dropped": self._hub.refused, "asked": self.asked})

    async def card(self, request: Request) -> Response:
        """The card of a bundled model, as it stands in its file."""
        name = request.path_params["model"]
        if name not in classify.bundled_models():
            return _error("There is no such model.", 404)
        return PlainTextResponse((classify.MODELS / f"{name}.md").read_text(encoding="utf-8"))

    async def request(self, request: Request) -> Response:
        """Ask the monitor something on a person's behalf."""
        session: Session = request.scope["session"]
        verb = request.path_params["verb"]
        if session.role != "responder":
            self._refused["role"] += 1
            return _error("A viewer may look, and change nothing.", 403)
        if verb not in VERBS:
            return _error(f"What is asked must be one of {', '.join(VERBS)}.", 404)
        try:
            asked = _read_request(await request.body(), session)
            answer = await self._asker.ask(verb, asked)
        except ValueError as error:
            return _error(str(error), 422)
        except ConnectionError as error:
            return _error(str(error), 503)
        self.asked[verb] += 1
        return _json(answer, 200 if answer.ok else 409)

    async def trial(self, request: Request) -> Response:
        """Judge the beats of an uploaded file."""
        model = request.query_params.get("model", classify.SHAPE_MODEL)
        if model not in classify.bundled_models():
            return _error("There is no such model.", 404)
        if self._trial.locked():
            return _error("Another file is being judged: try again in a moment.", 429)
        async with self._trial:
            with tempfile.TemporaryDirectory(prefix="ecgwatch-page-") as folder:
                file = Path(folder) / "upload"
                await _save(request.stream(), file)
                return await _run(MOST_FOR_BEATS, "monitor.page.trial", str(file), model)

    async def analyse(self, request: Request) -> Response:
        """Find beats and alerts in an uploaded recording, as the monitor would live."""
        model = request.query_params.get("model", panel.DEFAULT_MODEL)
        suffix = Path(request.query_params.get("name", "")).suffix
        if find_spec(ANALYSIS) is None:
            return _error("This installation reads no recordings, only CSV files of beats.", 501)
        try:
            told = _read_told(request.query_params)
        except ValueError as error:
            return JSONResponse({"error": str(error), "asks": "rate"}, 422)
        if model not in classify.bundled_models() or not re.fullmatch(SUFFIX, suffix):
            return _error("Expected a model that exists, and a file whose name ends with its format.", 404)
        if self._trial.locked():
            return _error("Another file is being judged: try again in a moment.", 429)
        async with self._trial:
            with tempfile.TemporaryDirectory(prefix="ecgwatch-page-") as folder:
                file = Path(folder) / f"recording{suffix}"
                await _save(request.stream(), file)
                words = ("analyse", str(file), "--json", "--model", model, "--provider", "cpu", *told)
                return await _run(MOST_FOR_RECORDINGS, ANALYSIS, *words)


async def _save(stream: AsyncIterator[bytes], file: Path) -> None:
    with file.open("wb") as written:
        async for piece in stream:
            written.write(piece)


async def _run(most_bytes: int, module: str, *words: str) -> Response:
    """Run what judges a file, and return its JSON, or its error in words."""
    command = [sys.executable, "-m", "monitor.page.limited", str(most_bytes), str(MOST_CPU_S), module, *words]
    child = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    try:
        out, errors = await asyncio.wait_for(child.communicate(), TRIAL_S)
    except TimeoutError:
        return _error(f"The file took longer than {TRIAL_S:.0f} s.", 422)
    finally:
        with contextlib.suppress(ProcessLookupError):
            child.kill()
    if child.returncode == COMMAND_REFUSES:
        return _refusal(_without_folder(errors.decode("utf-8", "replace")))
    if child.returncode != 0:
        return _error("The file is too large once it is unpacked, or takes too long.", 422)
    return Response(out, 422 if out.startswith(b'{"error"') else 200, media_type="application/json")


def _without_folder(error: str) -> str:
    """The last line of a command's error, without where the file lay here, nor what it was called."""
    line = (error.strip().splitlines() or ["cannot be read."])[-1]
    return re.sub(r"\S*/ecgwatch-page-\w+/recording\.\w+\s*", "", line).removeprefix(f"{ANALYSIS}: ")[:500]


def _refusal(error: str) -> Response:
    """What is wrong with a recording; and what a person must say of it, if that is all, as ``asks``."""
    flag = ASKED_BY.search(error)
    if flag is None:
        return _error(error, 422)
    asks = flag.group(1)
    return JSONResponse({"error": f"{error[: flag.start()]}. {TOLD[asks]}", "asks": asks}, 422)


def _read_told(told: Mapping[str, str]) -> list[str]:
    """Return what a person says of a recording, as the words of a command.

    Raises
    ------
    ValueError
        The rate cannot be.
    """
    given = {name: told[name].strip() for name in TOLD if told.get(name, "").strip()}
    if "rate" in given:
        rate = given["rate"] = given["rate"].replace(",", ".")
        if not re.fullmatch(r"\d{1,5}(\.\d{1,6})?", rate) or not wire.MIN_RATE_HZ <= float(rate) <= wire.MAX_RATE_HZ:
            low, high = wire.MIN_RATE_HZ, wire.MAX_RATE_HZ
            raise ValueError(f"The rate must lie between {low:g} and {high:g} samples a second: got {rate[:20]!r}.")
    return [f"--{name}={value[:64]}" for name, value in given.items()]


def _read_request(body: bytes, session: Session) -> wire.Request:
    """Return what a browser asks, in the name of whoever is logged in.

    Raises
    ------
    ValueError
        It is no such request.
    """
    try:
        fields = msgspec.json.decode(body, type=dict[str, Any])
        given = {name: fields[name] for name in ASKED if fields.get(name) is not None}
        by = session.user or str(fields.get("by") or "").strip()[:56]
        if not by:
            raise ValueError("Say who you are: what people do with alerts is recorded with their names.")
        return msgspec.convert(given | {"by": by}, wire.Request)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"This cannot be asked: {error}.") from None


@cache
def list_models() -> list[dict[str, Any]]:
    """Return what the bundled models say of themselves."""
    return [msgspec.to_builtins(panel.read_info(name)) for name in classify.bundled_models()]


def _json(content: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(content), status, media_type="application/json")


def _error(text: str, status: int) -> Response:
    return JSONResponse({"error": text}, status)


async def on_too_large(_request: Request, _error_: Exception) -> Response:
    """Answer a body that went over its limit."""
    return JSONResponse({"error": "This is larger than the page takes."}, 413, {"connection": "close"})
