"""Links as data: model and plan are pure, execute and netlink do, watch listens."""
