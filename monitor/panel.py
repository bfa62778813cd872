"""The models that judge beats together: one whose word counts, and perhaps a shape model beside it.

The first is a class model (`monitor.class_model`), or any model of single windows (`monitor.classify`). Beside a class
model a shape model may stand: it sees what classes do not tell, such as a change of the ST segment, and it only speaks
of beats that the class model calls normal, in leads that it was trained on. Knows nothing of devices.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from monitor import beat2
from monitor.class_model import CLASS_MODEL, ClassModel, check_info
from monitor.classify import (
    SHAPE_MODEL,
    Classifier,
    ModelInfo,
    Provider,
    check_session,
    find_model,
    open_session,
    read_metadata,
)
from monitor.wiring import ModelMismatch

DEFAULT_MODEL = CLASS_MODEL
"""What judges if nothing else is asked for."""
NO_SHAPE = "none"
"""Stands for no shape model."""
_LEAD_WORDS = re.compile(r"lead|ecg|ekg|[\s_:.-]+")


@dataclass(frozen=True, slots=True)
class Panel:
    """Models that judge together."""

    main: Classifier | ClassModel
    """Its classes are the labels of beats."""
    shape: Classifier | None = None
    """Beside a class model."""

    @property
    def class_model(self) -> ClassModel | None:
        """The main model, if it is a class model."""
        return cast(ClassModel, self.main) if self.info.contract == beat2.CONTRACT else None

    @property
    def info(self) -> ModelInfo:
        """Description of the main model."""
        return self.main.info

    @property
    def sha256(self) -> str:
        """Of the main model's file."""
        return self.main.sha256

    def names(self) -> dict[str, Any]:
        """Fields of `wire.MonitorStatus` that say which models judge."""
        shape = self.shape
        return {
            "model": self.info.name,
            "model_sha256": self.sha256,
            "shape_model": None if shape is None else shape.info.name,
            "shape_model_sha256": None if shape is None else shape.sha256,
        }

    def speaks_of(self, lead: str | None) -> bool:
        """Whether the shape model has a say on beats of a lead; on none that the device does not name."""
        if self.shape is None or lead is None:
            return False
        leads = self.shape.info.leads
        return not leads or _plain(lead) in map(_plain, leads)


def load_panel(model: str | Path = DEFAULT_MODEL, shape: str = SHAPE_MODEL, provider: Provider = "cpu") -> Panel:
    """Load the models that judge together.

    Parameters
    ----------
    model
        Name of a bundled model, or path of an ONNX file.
    shape
        The same of the shape model, or "none"; it is used only beside a class model.
    provider
        See `monitor.classify.Classifier`.

    Raises
    ------
    FileNotFoundError, ModelMismatch, ValueError
        As `monitor.classify.Classifier` and `monitor.class_model.ClassModel`; the shape model sees more than windows.
    """
    if read_info(model).contract != beat2.CONTRACT:
        return Panel(Classifier(model, provider))
    main = ClassModel(model, provider)
    if shape == NO_SHAPE:
        return Panel(main)
    beside = Classifier(shape, provider)
    if beside.needs_rr:
        raise ModelMismatch(f"{shape} cannot be a shape model: it must see windows alone, and also sees RR intervals.")
    return Panel(main, beside)


def read_info(model: str | Path) -> ModelInfo:
    """Description of a model of either kind, checked, but without asking the network anything.

    Raises
    ------
    FileNotFoundError, ModelMismatch
        As `monitor.classify.Classifier`.
    """
    path = find_model(model)
    session = open_session(path, ["CPUExecutionProvider"], threads=1)
    info = read_metadata(path, session)
    return check_info(path, info) if info.contract == beat2.CONTRACT else check_session(path, session)


def _plain(lead: str) -> str:
    """Name of a lead without what people write around it: "ECG lead II" -> "ii"."""
    return _LEAD_WORDS.sub("", lead.casefold())
