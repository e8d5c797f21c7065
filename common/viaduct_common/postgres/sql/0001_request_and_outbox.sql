-- What every service has: the answers it gave, and the messages it has yet to send.

-- One row per mutating request, written in the transaction of its effect; a repeated message id finds it here.
CREATE TABLE request (
    sender         text        NOT NULL,
    message_id     uuid        NOT NULL,
    type           text        NOT NULL,
    answer         bytea,                   -- the reply, byte for byte; NULL while an operation runs
    operation_uuid uuid,
    created_at     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (sender, message_id)
);
CREATE INDEX request_created_at ON request (created_at);
CREATE INDEX request_operation ON request (operation_uuid) WHERE answer IS NULL;

CREATE TABLE outbox (
    id             bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    exchange       text        NOT NULL,
    routing_key    text        NOT NULL,
    type           text        NOT NULL,
    message_id     uuid        NOT NULL,
    correlation_id text,
    body           bytea       NOT NULL,
    mandatory      boolean     NOT NULL,
    expires_at     timestamptz,
    traceparent    text,
    due_at         timestamptz NOT NULL DEFAULT now(),
    attempts       integer     NOT NULL DEFAULT 0,
    created_at     timestamptz NOT NULL DEFAULT now()
)
-- A queue table: dead rows at its head slow every claim until they are vacuumed.
WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 200);
