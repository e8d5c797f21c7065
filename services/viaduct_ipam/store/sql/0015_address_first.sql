-- "Who has 10.0.0.7?", whatever network it is of: the same indexes with the address first answer that as well.
ALTER TABLE used_ip DROP CONSTRAINT used_ip_once, ADD CONSTRAINT used_ip_once UNIQUE (ip, l2_network_uuid);
DROP INDEX ip_history_ip;
CREATE INDEX ip_history_ip ON ip_history (ip, l3_network_uuid, ended_at);

-- What is written for a batch comes as two arrays of rows: that costs the sender less than an array for each column.
CREATE TYPE given_address AS (
    uuid         uuid,
    l3           uuid,
    range_uuid   uuid,
    ip           text,
    owner        text,
    mac          text,
    allocated_at timestamptz,
    expires_at   timestamptz,
    sender       text,
    message_id   uuid
);
CREATE TYPE kept_answer AS (
    l3         uuid,
    sender     text,
    message_id uuid,
    type       text,
    answer     bytea
);
