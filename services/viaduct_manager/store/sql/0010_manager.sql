-- The manager's tables. Desired state is committed here before any host is touched.

-- Generations are drawn from one sequence, so that (host, generation) names one order given to one host, for ever:
-- also when a network is attached, detached and attached again.
CREATE SEQUENCE generation;

CREATE TABLE zone (
    uuid        uuid PRIMARY KEY,
    name        text NOT NULL,
    description text,
    revision    integer NOT NULL DEFAULT 1,
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE cluster (
    uuid            uuid PRIMARY KEY,
    zone_uuid       uuid NOT NULL REFERENCES zone,
    name            text NOT NULL,
    description     text,
    hypervisor_type text NOT NULL,
    revision        integer NOT NULL DEFAULT 1,
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX cluster_zone ON cluster (zone_uuid);

CREATE TABLE host (
    uuid          uuid PRIMARY KEY,
    cluster_uuid  uuid NOT NULL REFERENCES cluster,
    name          text NOT NULL,
    description   text,
    tunnel_ip     inet,
    labels        jsonb NOT NULL DEFAULT '{}',
    maintenance   boolean NOT NULL DEFAULT false,
    deleting      boolean NOT NULL DEFAULT false,
    state         text NOT NULL DEFAULT 'connecting' CHECK (state IN ('connecting', 'connected', 'disconnected')),
    session_id    uuid,
    beats         integer NOT NULL DEFAULT 0,     -- in a row, since it was last disconnected
    last_seen_at  timestamptz,
    synced_at     timestamptz,                    -- when a host.sync was last sent
    agent_version text,
    capabilities  jsonb NOT NULL DEFAULT '[]',
    interfaces    jsonb NOT NULL DEFAULT '[]',
    health        jsonb NOT NULL DEFAULT '[]',
    revision      integer NOT NULL DEFAULT 1,
    created_at    timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 70);                         -- every heartbeat updates a row in place
CREATE INDEX host_cluster ON host (cluster_uuid);

CREATE TABLE l2_network (
    uuid               uuid PRIMARY KEY,
    zone_uuid          uuid NOT NULL REFERENCES zone,
    name               text NOT NULL,
    description        text,
    type               text NOT NULL,
    physical_interface text NOT NULL,
    mtu                integer NOT NULL,
    own_fields         jsonb NOT NULL,             -- the type's own, as they stand on the wire
    bridge_name        text NOT NULL,              -- derived once; a recorded name never changes
    device_names       jsonb NOT NULL,
    deleted            boolean NOT NULL DEFAULT false, -- kept until the last host has released it
    revision           integer NOT NULL DEFAULT 1,
    created_at         timestamptz NOT NULL DEFAULT now(),
    updated_at         timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX l2_network_zone ON l2_network (zone_uuid);

-- The intent. Of two conflicting attaches at the same moment the unique constraints let one through.
CREATE TABLE attachment (
    l2_uuid        uuid NOT NULL REFERENCES l2_network,
    cluster_uuid   uuid NOT NULL REFERENCES cluster,
    conflict_key   text NOT NULL,
    state          text NOT NULL CHECK (state IN ('attaching', 'attached', 'degraded', 'detaching', 'undoing')),
    operation_uuid uuid,
    created_at     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (l2_uuid, cluster_uuid),
    CONSTRAINT attachment_conflict UNIQUE (cluster_uuid, conflict_key)
);

CREATE TABLE attachment_name (
    cluster_uuid uuid NOT NULL,
    device_name  text NOT NULL,
    l2_uuid      uuid NOT NULL,
    CONSTRAINT attachment_name_collision PRIMARY KEY (cluster_uuid, device_name),
    FOREIGN KEY (l2_uuid, cluster_uuid) REFERENCES attachment ON DELETE CASCADE
);
CREATE INDEX attachment_name_l2 ON attachment_name (l2_uuid, cluster_uuid);

-- Desired and observed, one row per (L2 network, host). No row: nothing desired, nothing left.
CREATE TABLE realization (
    l2_uuid             uuid NOT NULL REFERENCES l2_network,
    host_uuid           uuid NOT NULL REFERENCES host ON DELETE CASCADE,
    desired             text NOT NULL CHECK (desired IN ('present', 'absent')),
    generation          bigint NOT NULL,
    observed_generation bigint,
    state               text NOT NULL CHECK (state IN ('pending', 'realizing', 'realized', 'failed', 'releasing')),
    forced              boolean NOT NULL DEFAULT false,
    error               jsonb,
    attempts            integer NOT NULL DEFAULT 0,
    retry_at            timestamptz,
    since               timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (host_uuid, l2_uuid)
) WITH (fillfactor = 70);
CREATE INDEX realization_l2 ON realization (l2_uuid);
CREATE INDEX realization_retry ON realization (retry_at) WHERE retry_at IS NOT NULL;

CREATE TABLE operation (
    uuid         uuid PRIMARY KEY,
    type         text NOT NULL,
    state        text NOT NULL CHECK (state IN ('running', 'succeeded', 'failed')),
    phase        text NOT NULL,
    l2_uuid      uuid,
    cluster_uuid uuid,
    host_uuid    uuid,
    on_failure   text NOT NULL DEFAULT 'rollback',
    action       text,                             -- of a plan: attach or detach
    forced       boolean NOT NULL DEFAULT false,
    pending      integer NOT NULL DEFAULT 0,       -- steps of the present phase that have not ended
    failed       integer NOT NULL DEFAULT 0,       -- ... and that failed
    error        jsonb,
    created_at   timestamptz NOT NULL DEFAULT now(),
    deadline_at  timestamptz NOT NULL,
    finished_at  timestamptz
);
CREATE INDEX operation_running ON operation (deadline_at) WHERE state = 'running';
CREATE INDEX operation_created_at ON operation (created_at);

CREATE TABLE operation_step (
    operation_uuid uuid NOT NULL REFERENCES operation ON DELETE CASCADE,
    host_uuid      uuid NOT NULL,
    phase          text NOT NULL,
    state          text NOT NULL CHECK (state IN ('pending', 'done', 'failed', 'skipped', 'superseded')),
    command_id     uuid,
    generation     bigint,
    result         jsonb,
    error          jsonb,
    started_at     timestamptz NOT NULL DEFAULT now(),
    finished_at    timestamptz,
    PRIMARY KEY (operation_uuid, phase, host_uuid)
);
CREATE INDEX operation_step_generation ON operation_step (host_uuid, generation) WHERE state = 'pending';
CREATE INDEX operation_step_command ON operation_step (command_id) WHERE state = 'pending';
CREATE INDEX operation_step_host ON operation_step (host_uuid) WHERE state = 'pending';

-- Who waits for the end of an operation; the answer goes out in the transaction that ends it.
CREATE TABLE operation_waiter (
    operation_uuid uuid NOT NULL REFERENCES operation ON DELETE CASCADE,
    reply_to       text NOT NULL,
    correlation_id text NOT NULL,
    PRIMARY KEY (operation_uuid, reply_to, correlation_id)
);

CREATE TABLE l3_network (
    uuid        uuid PRIMARY KEY,
    l2_uuid     uuid NOT NULL REFERENCES l2_network,
    zone_uuid   uuid NOT NULL REFERENCES zone,
    name        text NOT NULL,
    description text,
    category    text NOT NULL,
    dns_domain  text,
    dns         jsonb NOT NULL DEFAULT '[]',
    ip_version  integer,
    strategy    text NOT NULL,
    revision    integer NOT NULL DEFAULT 1,
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX l3_network_l2 ON l3_network (l2_uuid);
