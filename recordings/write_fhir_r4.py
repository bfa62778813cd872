"""The bundle of `recordings.write_fhir` as FHIR R4 has it, which most servers speak: validated as R4B.

The types that it uses are the same in R4 and R4B; of R5 they differ in how a sampled signal gives its rate.
"""

from __future__ import annotations

from pathlib import Path

from recordings import write_fhir
from recordings.export import Export


def write(export: Export, path: Path) -> None:
    """Write a bundle as JSON; see `recordings.export.write`."""
    write_fhir.write(export, path, "R4")
