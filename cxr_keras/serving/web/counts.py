"""What /metrics says, in Prometheus's text format."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_OTHER = "other"  # paths of strangers are no label: there could be any number of them


class Counts:
    """Counters of one server.

    Args:
        paths: of requests that are counted by name.
        taken: how many images are being answered.
    """

    def __init__(self, paths: frozenset[str], taken: Callable[[], int]):
        self._registry, self._paths = CollectorRegistry(), paths
        registry = self._registry
        self._requests = Counter(
            "cxr_keras_requests", "Requests.", ["path", "status"], registry=registry
        )
        self._seconds = Histogram(
            "cxr_keras_request_seconds", "Until an answer begins.", ["path"], registry=registry
        )
        self._images = Counter("cxr_keras_images", "Images.", ["run", "outcome"], registry=registry)
        self._batches = Histogram(
            "cxr_keras_batch_images",
            "Images in a forward pass.",
            registry=registry,
            buckets=(1, 2, 4, 8, 16, 32),
        )
        Gauge(
            "cxr_keras_images_in_work",
            "Images that are read, wait or are predicted.",
            registry=registry,
        ).set_function(taken)

    def answered(self, path: str, status: int, seconds: float) -> None:
        """Count an answer."""
        path = path if path in self._paths else _OTHER
        self._requests.labels(path, str(status)).inc()
        self._seconds.labels(path).observe(seconds)

    def image(self, run: str, outcome: str) -> None:
        """Count an image: "predicted", "unreadable" or "unlike_training"."""
        self._images.labels(run, outcome).inc()

    def batch(self, size: int) -> None:
        """Count a forward pass."""
        self._batches.observe(size)

    def text(self) -> bytes:
        """All of them."""
        return generate_latest(self._registry)
