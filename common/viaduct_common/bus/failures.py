"""What can go wrong between us and the broker; none of these crosses the wire."""


class BusError(Exception):
    """The broker did not do what was asked."""


class PublishFailed(BusError):
    """No confirm came: the message may or may not have been taken. Publish it again with the same message id."""


class Unroutable(BusError):
    """The broker confirmed that no queue takes this message: it was not delivered to anyone."""


class GiveBack(Exception):
    """Raised by a handler that could not start: the message goes back to the queue, to whoever comes next."""


class StoreUnavailable(Exception):
    """The database does not answer; nothing was changed, try again in a moment."""
