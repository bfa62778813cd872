"""A Parquet file by `pyarrow`: time, microvolts, annotation, and what the device is in the metadata.

Missing samples have no row. Times are nanoseconds since 1970 (UTC).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from recordings.export import MISSING, Export, beside
from recordings.write_csv import texts_of


def write(export: Export, path: Path) -> None:
    """Write a Parquet file; see `recordings.export.write`."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise ValueError("Parquet files need the package pyarrow: pip install 'ecgwatch[parquet]'.") from None
    places = np.flatnonzero(export.steps != MISSING)
    texts = texts_of(export)
    start_ns = round(export.start_s * 1e6) * 1000
    times_ns = start_ns + np.rint(places * (1e9 / export.rate_hz)).astype(np.int64)
    columns = {
        "time": pa.array(times_ns, pa.timestamp("ns", "UTC")),
        "ecg_uv": pa.array((export.steps[places] * export.resolution_uv).astype(np.float32)),
        "annotation": pa.array([texts.get(place) for place in places.tolist()], pa.string()),
    }
    about = {
        "device": export.name, "lead": export.lead, "rate_hz": repr(export.rate_hz),
        "resolution_uv": repr(export.resolution_uv), "comments": "; ".join(export.comments),
    }  # fmt: skip
    table = pa.table(columns).replace_schema_metadata(about)
    with beside(path) as draft:
        pq.write_table(table, draft, compression="zstd")
