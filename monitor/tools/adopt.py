"""Make a model file from elsewhere a model of the monitor: prove that it answers, and store what it is in the file.

Files of PyTorch, Keras (tf2onnx) and scikit-learn (skl2onnx) are taken as they are; only metadata are added, so that
nothing but the monitor itself is needed. What cannot be proved stays with the caller: that the network was trained on
windows as `monitor.beat` cuts them, and on these classes in this order.
"""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import msgspec

from monitor import beat
from monitor.classify import METADATA_KEY, Classifier, ModelInfo, find_answers, open_session
from monitor.onnx_file import external_files, set_metadata
from monitor.wiring import FLOATS, find_input


@dataclass(frozen=True, slots=True)
class AdoptSettings:
    """What to adopt, and as what.

    Raises
    ------
    ValueError
        The classes are not two or more, all different, or the threshold is not a probability.
    """

    file: Path
    classes: tuple[str, ...]
    """In the order of the columns; the first is the normal one."""
    threshold: float
    """Probability of not being normal from which a beat counts as abnormal."""
    output: Path | None = None
    """Where to write the model; beside the file, with "-adopted" added to its name, if not given."""

    def __post_init__(self) -> None:
        if len(self.classes) < 2 or len(set(self.classes)) != len(self.classes) or not all(self.classes):
            raise ValueError(f"Classes must be two or more, all different: got {','.join(self.classes)!r}.")
        if "normal" in self.classes[1:]:
            raise ValueError(
                f"The normal class must be the model's first: got {','.join(self.classes)!r}. A network with another "
                "order needs its outputs reordered before the export."
            )
        if not 0 <= self.threshold <= 1:
            raise ValueError(f"The threshold must be a probability, 0 to 1: got {self.threshold:g}.")


def adopt(settings: AdoptSettings) -> str:
    """Write the model, and return what was found of it, for people.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    FileExistsError
        There is one already where the model is to be written.
    ModelMismatch
        The file cannot be adapted without doubt, or its answers make no sense; nothing is written.
    """
    file = settings.file
    if not file.is_file():
        raise FileNotFoundError(f"No model file {file}.")
    out = settings.output or file.with_name(f"{file.stem}-adopted.onnx")
    if out.exists():
        raise FileExistsError(f"{out} is there already: name another by --output.")
    info = _describe(settings)
    content = set_metadata(file.read_bytes(), METADATA_KEY, msgspec.json.encode(info).decode())
    unproven = out.with_name(f"{out.name}.unproven")
    copied = _copy_weights(file, out)
    try:
        unproven.write_bytes(content)
        classifier = Classifier(unproven)
        os.replace(unproven, out)
    except BaseException:
        for path in copied:
            path.unlink(missing_ok=True)
        raise
    finally:
        unproven.unlink(missing_ok=True)
    return _report(out, classifier)


def _describe(settings: AdoptSettings) -> ModelInfo:
    """Try the file, and describe it."""
    session = open_session(settings.file, ["CPUExecutionProvider"], threads=1)
    _, form = find_answers(settings.file, session, list(settings.classes), False, None)
    half = FLOATS[find_input(session, False).type].__name__ == "float16"
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", settings.file.stem)[:64]
    return ModelInfo(
        name=name,
        network=session.get_modelmeta().producer_name or "unknown",
        contract=beat.CONTRACT,
        rate_hz=beat.RATE_HZ,
        length=beat.LENGTH,
        scaling="minmax",
        classes=list(settings.classes),
        threshold=settings.threshold,
        trained_on={},
        figures={},
        precision="fp16" if half else "fp32",
        output=form,
    )


def _copy_weights(file: Path, out: Path) -> list[Path]:
    """Put files that hold weights of the model beside where it will lie; return those that were not there before."""
    copied = []
    for source in external_files(file, file.read_bytes()):
        target = out.parent / source.relative_to(file.parent)
        if target.exists():
            if not target.samefile(source):
                raise FileExistsError(f"{target} is there already, and would hold weights of the model.")
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        copied.append(target)
    return copied


def _report(out: Path, classifier: Classifier) -> str:
    info, wiring = classifier.info, classifier.wiring
    answers = f"{info.output} of {info.classes[1] if wiring.is_one_column else ', '.join(info.classes)}"
    return (
        f"Wrote {out}, SHA-256 {classifier.sha256}.\n"
        f"Input {wiring.input!r}, windows of the shape {wiring.shape}"
        f"{'' if wiring.batch is None else f', {wiring.batch} at a time'}; output {wiring.output!r}: {answers}.\n"
        f"A beat counts as abnormal if it is not {info.classes[0]} with a probability of {info.threshold:g} or more.\n"
        "Nothing shows what it was trained on: it must know windows that begin at the R peak, 1.2 median RR intervals\n"
        "at 125 Hz, scaled to 0..1 and padded with zeros to 187 samples. Look at its verdicts before you believe it:\n"
        f"ecgwatch score RECORD --model {out}"
    )
