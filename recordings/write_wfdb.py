"""A WFDB record: .hea, .dat of 16 bits, .atr with beats and rhythm notes; a missing sample is -32768."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

from recordings.annotations import write_annotations
from recordings.export import Export, folder_beside
from recordings.reader import open_wfdb


def write(export: Export, path: Path) -> None:
    """Write a record; see `recordings.export.write`."""
    if not re.fullmatch(r"[A-Za-z0-9_-]+", path.stem):
        raise ValueError(f"A WFDB record: got the name {path.stem!r}, expected letters, digits, - and _.")
    start = datetime.fromtimestamp(export.start_s, UTC).replace(tzinfo=None)
    with folder_beside(path) as folder:
        with open_wfdb(f"{path} cannot be written as a WFDB record") as wfdb:
            wfdb.wrsamp(
                path.stem, export.rate_hz, ["mV"], [export.lead], d_signal=export.steps.astype("int64")[:, None],
                fmt=["16"], adc_gain=[1000 / export.resolution_uv], baseline=[0], write_dir=str(folder),
                base_datetime=start, comments=[f"device {export.name}", *export.comments],
            )  # fmt: skip
        write_annotations(folder / f"{path.stem}.atr", export.notes, export.rate_hz, export.steps.size)
