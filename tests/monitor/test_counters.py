from __future__ import annotations

from collections import Counter

from monitor import counters
from monitor.service.metrics import _counters


def test_every_total_has_a_name_and_a_help_of_its_own() -> None:
    names = Counter(one.name for one in counters.DEFINED)
    helps = Counter(one.help for one in counters.DEFINED)
    assert max(names.values()) == max(helps.values()) == 1


def test_every_total_becomes_exactly_one_sample_of_the_metrics() -> None:
    counts = {one.name: i for i, one in enumerate(counters.DEFINED, start=1)}
    samples = [sample for metric in _counters(counts) for sample in metric.samples if sample.value]
    assert sorted(sample.value for sample in samples) == sorted(counts.values())
    for one in counters.DEFINED:
        [sample] = [sample for sample in samples if sample.value == counts[one.name]]
        assert sample.name == f"{one.metric}_total"
        assert sample.labels == ({} if one.label is None else {one.label: one.value})


def test_all_that_is_refused_counts_as_trouble() -> None:
    refused = {one.name for one in counters.DEFINED if one.name.startswith(counters.REFUSED.prefix)}
    assert counters.RATE_CHANGES_REFUSED in refused
    assert refused <= set(counters.TROUBLE)
