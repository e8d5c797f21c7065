"""What the engine counts."""

from functools import cache

from prometheus_client import Counter, Histogram

BATCH = Histogram(
    "viaduct_ipam_batch_requests",
    "Requests that were written together",
    buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256),
)
CONFLICTS = Counter(
    "viaduct_ipam_conflicts",
    "Writes that had to be planned again, by cause: revision (the scope was busy or had changed) or message_id",
    ["cause"],
)
ADDRESSES = Counter(
    "viaduct_ipam_addresses",
    "Addresses allocated, or taken back by cause: released, expired or reclaimed",
    ["what"],
)
ENGINE_SECONDS = Histogram(
    "viaduct_ipam_engine_seconds",
    "Time of a request in the engine, its wait for a batch included",
    ["type"],
    buckets=(0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1, 2, 4, 8),
)
# Of the hot path: looking them up by their labels each time costs more than counting.
allocated, released = ADDRESSES.labels("allocated"), ADDRESSES.labels("released")
engine_seconds = cache(ENGINE_SECONDS.labels)
