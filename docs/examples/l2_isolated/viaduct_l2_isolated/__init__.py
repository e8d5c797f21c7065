"""`L2IsolatedNetwork`: on each host of a cluster a bridge of its own, joined to nothing."""
