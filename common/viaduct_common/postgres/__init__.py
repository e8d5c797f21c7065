"""What both services need of Postgres: pool, migrations, idempotency, outbox, paging.

Needs the `services` extra (asyncpg). The agent never imports it.
"""
