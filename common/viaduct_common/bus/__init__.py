"""The only code that speaks AMQP.

`Bus` publishes with confirms, calls with direct reply-to, and consumes with an ack as the last step. It owns the
reconnect: whatever goes wrong on a connection or a channel, the connection is closed and everything on it (channels,
consumers) is set up anew by the same code that ran at the start, so a consumer cannot be lost on the way.
"""

from viaduct_common.bus.connection import Bus
from viaduct_common.bus.envelope import Delivery, Outgoing
from viaduct_common.bus.failures import BusError, GiveBack, PublishFailed, StoreUnavailable, Unroutable
from viaduct_common.bus.intake import RequestContext
from viaduct_common.bus.serve import DEFERRED, Executor, RequestServer

__all__ = [
    "DEFERRED",
    "Bus",
    "BusError",
    "Delivery",
    "Executor",
    "GiveBack",
    "Outgoing",
    "PublishFailed",
    "RequestContext",
    "RequestServer",
    "StoreUnavailable",
    "Unroutable",
]
