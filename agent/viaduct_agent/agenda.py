"""What is due when: each key once, at the earliest time that anybody asked for."""

import heapq
from uuid import UUID


class Agenda:
    """Times are of any one clock, in seconds."""

    def __init__(self) -> None:
        self._at: dict[UUID, float] = {}
        self._heap: list[tuple[float, UUID]] = []

    def __len__(self) -> int:
        return len(self._at)

    def put(self, key: UUID, at: float) -> None:
        """Not later than `at`."""
        if at < self._at.get(key, float("inf")):
            self._at[key] = at
            heapq.heappush(self._heap, (at, key))

    def take(self, now: float, most: int) -> list[UUID]:
        """Those due by `now`, the longest waiting first, `most` at the most."""
        taken: list[UUID] = []
        while len(taken) < most:
            at = self.next_at()
            if at is None or at > now:
                break
            _, key = heapq.heappop(self._heap)
            del self._at[key]
            taken.append(key)
        return taken

    def next_at(self) -> float | None:
        """When the next one is due; None if there is none."""
        while self._heap and self._at.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)  # it was taken, or put forward, since
        return self._heap[0][0] if self._heap else None
