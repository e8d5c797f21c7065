"""What the manager keeps in Postgres; the only place of its SQL."""
