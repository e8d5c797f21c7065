-- Hosts that are gone, whose queue and broker user are still to be removed: written with the removal, done after it.
CREATE TABLE revocation (
    host_uuid  uuid PRIMARY KEY,
    created_at timestamptz NOT NULL DEFAULT now()
);
