"""A FHIR bundle of observations, R5 or R4: the ECG as sampled data, ten minutes each; beats; alerts.

It is validated by `fhir.resources` before it is written. There is no patient in it: who wears the device is not known
here.

Codes: MDC (IEEE 11073-10101) 131328 for an ECG lead and 131329 for lead I and so on; LOINC 11524-6, "EKG study".
A missing sample is "E" in the sampled data, as FHIR has it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from recordings.export import MISSING, Export, beside

PART_S = 600.0
"""Length of the ECG in one observation."""
MDC = "urn:iso:std:iso:11073:10101"
LEADS = {
    "I": 131329, "II": 131330, "V1": 131331, "V2": 131332, "V3": 131333, "V4": 131334, "V5": 131335, "V6": 131336,
    "III": 131389, "aVR": 131390, "aVL": 131391, "aVF": 131392,
}  # fmt: skip
"""Lead -> MDC code of its electrical potential."""
ANY_LEAD = 131328
VERSIONS = ("R5", "R4")


def write(export: Export, path: Path, version: str = "R5") -> None:
    """Write a bundle as JSON; see `recordings.export.write`."""
    bundle = make_bundle(export, version)
    with beside(path) as draft:
        draft.write_text(json.dumps(bundle, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def make_bundle(export: Export, version: str = "R5") -> dict[str, Any]:
    """Return a validated bundle.

    Raises
    ------
    ValueError
        `fhir.resources` is not installed, or it finds the bundle invalid.
    """
    made = [*_signals(export, version), *_beats(export), *_alerts(export)]
    bundle = {
        "resourceType": "Bundle",
        "type": "collection",
        "timestamp": _time(export.start_s + export.steps.size / export.rate_hz),
        "entry": [
            {"fullUrl": f"urn:ecgwatch:{export.name}:{number}", "resource": resource}
            for number, resource in enumerate(made)
        ],
    }
    _model(version).model_validate(bundle)
    return bundle


def _model(version: str) -> Any:
    try:
        if version == "R4":
            from fhir.resources.R4B.bundle import Bundle as BundleR4

            return BundleR4
        from fhir.resources.bundle import Bundle
    except ImportError:
        raise ValueError("FHIR bundles need the package fhir.resources: pip install 'ecgwatch[fhir]'.") from None
    return Bundle


def _signals(export: Export, version: str) -> Iterator[dict[str, Any]]:
    size = max(1, round(PART_S * export.rate_hz))
    period_ms = 1000 / export.rate_hz
    spacing = {"period": period_ms} if version == "R4" else {"interval": period_ms, "intervalUnit": "ms"}
    code = LEADS.get(export.lead, ANY_LEAD)
    for begin in range(0, export.steps.size, size):
        part = export.steps[begin : begin + size]
        if (part == MISSING).all():
            continue
        words = np.where(part == MISSING, "E", part.astype(str))
        sampled = {
            "origin": {"value": 0, "unit": "uV", "system": "http://unitsofmeasure.org", "code": "uV"},
            **spacing, "factor": export.resolution_uv, "dimensions": 1, "data": " ".join(words.tolist()),
        }  # fmt: skip
        component = {"code": _coding(MDC, str(code), f"ECG lead {export.lead}"), "valueSampledData": sampled}
        yield _observation(export, "EKG study", ("http://loinc.org", "11524-6"), begin, begin + part.size) | {
            "component": [component]
        }


def _beats(export: Export) -> Iterator[dict[str, Any]]:
    """One observation of all beats: their times in ms since its start, and their annotation symbols."""
    if not export.beats:
        return
    times_ms = " ".join(str(round(1000 * note.time_s)) for note in export.beats)
    symbols = " ".join(note.symbol for note in export.beats)
    yield _observation(export, "Heart beats", None, 0, export.steps.size) | {
        "component": [
            {"code": {"text": "times of the QRS complexes, ms since the start of the period"}, "valueString": times_ms},
            {"code": {"text": "classes (ANSI/AAMI EC57; Q: not classified)"}, "valueString": symbols},
        ],
        "note": [{"text": text} for text in export.comments],
    }


def _alerts(export: Export) -> Iterator[dict[str, Any]]:
    for alert in export.alerts:
        end_s = export.steps.size / export.rate_hz if alert.end_s is None else max(alert.begin_s, alert.end_s)
        begin, end = round(alert.begin_s * export.rate_hz), round(end_s * export.rate_hz)
        yield _observation(export, alert.kind, None, begin, end) | {"valueString": alert.text or alert.kind}


def _observation(export: Export, text: str, code: tuple[str, str] | None, begin: int, end: int) -> dict[str, Any]:
    """An observation of a stretch of samples."""
    begin_s, end_s = export.start_s + begin / export.rate_hz, export.start_s + end / export.rate_hz
    return {
        "resourceType": "Observation",
        "status": "preliminary",
        "category": [
            {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "procedure"}]}
        ],
        "code": {"text": text} if code is None else _coding(*code, text),
        "effectivePeriod": {"start": _time(begin_s), "end": _time(end_s)},
        "device": {"display": export.name},
    }


def _coding(system: str, code: str, text: str) -> dict[str, Any]:
    return {"coding": [{"system": system, "code": code, "display": text}], "text": text}


def _time(time_s: float) -> str:
    return datetime.fromtimestamp(time_s, UTC).isoformat(timespec="milliseconds")
