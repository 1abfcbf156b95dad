"""Samples as the text that Prometheus reads, or OpenMetrics."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate, groupby

from prometheus_client import exposition
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import CollectorRegistry

from pacs.metrics import BUCKETS, Kind, Sample

_WORDS = {
    "pacs_requests": "Requests answered, DIMSE and HTTP, by status",
    "pacs_request_duration_seconds": "From the request's arrival to the end of its answer",
    "pacs_received_bytes": "Bytes of requests",
    "pacs_sent_bytes": "Bytes of answers",
    "pacs_associations": "Associations that peers asked for",
    "pacs_open_associations": "Associations that are open",
    "pacs_open_requests": "HTTP requests under way",
    "pacs_pixel_calls": "Calls of the pixel workers: that run, and that wait for a worker",
    "pacs_index_writes_waiting": "Writes to the index that wait for their turn",
    "pacs_cache_uses": "Looks into a cache: found, or not",
    "pacs_stored": "What the archive holds, by level",
    "pacs_stored_bytes": "Size of all stored instances",
    "pacs_index_bytes": "Size of the index on its disk",
    "pacs_disk_free_bytes": "Free on the disk of the store",
    "pacs_disk_reserve_bytes": "Below this much free space nothing is stored (MIN_FREE_BYTES)",
    "pacs_jobs": "Follow-up jobs by kind and state",
    "pacs_up": "Whether the archive can be read: 1, or 0",
    "pacs_process_cpu_seconds": "Processor time of a worker process",
    "pacs_process_resident_memory_bytes": "Memory of a worker process",
    "pacs_process_threads": "Threads of a worker process",
    "pacs_build_info": "Versions",
}


def exposed(samples: Sequence[Sample], accept: str) -> tuple[bytes, str]:
    """The text, and its media type. accept: the header of whoever asks."""
    encode, content_type = exposition.choose_encoder(accept)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(samples))
    return encode(registry), content_type


class _Collector:
    def __init__(self, samples: Sequence[Sample]) -> None:
        self._samples = samples

    def collect(self) -> Iterator[Metric]:
        def family(sample: Sample) -> tuple[str, Kind]:
            return sample.name, sample.kind

        for (name, kind), some in groupby(sorted(self._samples, key=family), family):
            yield _family(name, kind, list(some))


def _family(name: str, kind: Kind, samples: Sequence[Sample]) -> Metric:
    words, names = _WORDS.get(name, name), [label for label, _ in samples[0].labels]
    if kind is Kind.HISTOGRAM:
        histogram = HistogramMetricFamily(name, words, labels=names)
        for sample in samples:
            *counts, total = sample.values
            bounds = [*(f"{bound:g}" for bound in BUCKETS), "+Inf"]
            buckets = list(zip(bounds, accumulate(counts), strict=True))
            histogram.add_metric([value for _, value in sample.labels], buckets, total)
        return histogram
    made = CounterMetricFamily if kind is Kind.COUNTER else GaugeMetricFamily
    family = made(name, words, labels=names)
    for sample in samples:
        family.add_metric([value for _, value in sample.labels], sample.values[0])
    return family
