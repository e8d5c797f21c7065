"""What the engine counts."""

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
ADDRESSES = Counter("viaduct_ipam_addresses", "Addresses given out and taken back", ["what"])
