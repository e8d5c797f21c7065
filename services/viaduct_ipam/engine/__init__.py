"""The engine that gives addresses out and takes them back: many requests in one transaction.

    request ─► Engine.execute ─► desk: plans on what it remembers, writes in one statement ─► answer
                        │             │ the scope is busy, or another revision
                        └─ release ───┴─► lane of the scope: locks it, reads it, plans, writes ─► answer

Batches come about by themselves: while one is written, the next ones gather. Nothing that a process remembers is
trusted: every write names the revision of the scope on which it was planned, and takes effect only on that one.
"""
