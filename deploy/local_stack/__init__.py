"""The local stack: broker, database, services and hosts, on this machine alone, all state below one directory.

    python -m local_stack up|down|status

Its parts can be had one by one, for tests: `Broker`, `Postgres`, `Service`, `Hosts` take a run directory, start on
entering a `with` and stop on leaving it. `Stack` is all of them.
"""
