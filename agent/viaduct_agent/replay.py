"""Remembering the answers to the last few messages."""

from collections import OrderedDict
from typing import Generic, TypeVar
from uuid import UUID

A = TypeVar("A")


class Replays(Generic[A]):
    """Answers by message id; the oldest goes when there are more than `limit`."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._answers: OrderedDict[UUID, A] = OrderedDict()

    def get(self, message_id: UUID) -> A | None:
        return self._answers.get(message_id)

    def put(self, message_id: UUID, answer: A) -> None:
        self._answers[message_id] = answer
        while len(self._answers) > self._limit:
            self._answers.popitem(last=False)
