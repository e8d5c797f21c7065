-- Imports: rows wait here until all of them are applied, or none.

-- Unlogged, all four: a crash of the database empties them together, and whoever was importing learns that there is no
-- such import. Nothing that was applied is in them alone.
CREATE UNLOGGED TABLE import_job (
    uuid       uuid        PRIMARY KEY DEFAULT gen_random_uuid(),
    created_at timestamptz NOT NULL DEFAULT now(),
    result     jsonb                    -- what applying it has done; NULL until then
);
CREATE INDEX import_job_created_at ON import_job (created_at);

-- A line of the file; of `kind` NULL if it cannot be read, else with the columns of its kind. An allocation's address
-- is both its start_ip and its end_ip.
CREATE UNLOGGED TABLE import_row (
    import_uuid     uuid     NOT NULL REFERENCES import_job ON DELETE CASCADE,
    line            integer  NOT NULL,
    digest          bytea    NOT NULL,  -- of its values: the same line again is no error, another is
    kind            text     CHECK (kind IN ('range', 'reservation', 'allocation')),
    l3_network_uuid uuid,
    start_ip        host_address,
    end_ip          host_address,
    prefix_length   smallint,
    gateway         host_address,
    type            text,
    address_mode    text,
    name            text,
    reason          text,
    owner           text,
    mac             macaddr,
    allocated_at    timestamptz,
    expires_at      timestamptz,
    uuid            uuid,
    PRIMARY KEY (import_uuid, line)
);
CREATE INDEX import_row_range ON import_row (import_uuid, line) WHERE kind = 'range';
CREATE INDEX import_row_held ON import_row (import_uuid, l3_network_uuid, start_ip, line)
    WHERE kind = 'reservation' AND (owner IS NOT NULL OR mac IS NOT NULL);
CREATE INDEX import_row_allocation ON import_row (import_uuid, l3_network_uuid, start_ip, line)
    WHERE kind = 'allocation';
CREATE INDEX import_row_uuid ON import_row (import_uuid, uuid, line) WHERE uuid IS NOT NULL;

-- The ranges of an import that are right beside those that exist and those before them: as they will be stored.
CREATE UNLOGGED TABLE import_range (
    import_uuid     uuid         NOT NULL REFERENCES import_job ON DELETE CASCADE,
    line            integer      NOT NULL,
    l3_network_uuid uuid         NOT NULL,
    l2_network_uuid uuid         NOT NULL,
    name            text,
    type            text         NOT NULL,
    start_ip        host_address NOT NULL,
    end_ip          host_address NOT NULL,
    prefix_length   smallint     NOT NULL,
    gateway         host_address,
    address_mode    text,
    PRIMARY KEY (import_uuid, line)
);
CREATE INDEX import_range_l3 ON import_range (import_uuid, l3_network_uuid, start_ip);
CREATE INDEX import_range_l2 ON import_range (import_uuid, l2_network_uuid, start_ip);
CREATE INDEX import_range_gateway ON import_range (import_uuid, l3_network_uuid, gateway) WHERE gateway IS NOT NULL;

-- `of_apply`: found by applying, so the next try finds it anew; else the row is wrong by itself.
CREATE UNLOGGED TABLE import_problem (
    id          bigint  GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    import_uuid uuid    NOT NULL REFERENCES import_job ON DELETE CASCADE,
    line        integer NOT NULL,
    of_apply    boolean NOT NULL,
    field       text,
    code        text    NOT NULL,
    message     text    NOT NULL
);
CREATE INDEX import_problem_line ON import_problem (import_uuid, line, id);

-- Which gateways lie in a range that somebody wants to add: looked up for every line of an import.
CREATE INDEX ip_range_gateway ON ip_range (l3_network_uuid, gateway) WHERE gateway IS NOT NULL;
