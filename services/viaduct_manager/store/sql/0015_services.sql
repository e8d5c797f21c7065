-- L3 networks in depth, and what network services stand on: providers, who serves what, instances on hosts.

ALTER TABLE l3_network
    ADD COLUMN mtu         integer,
    ADD COLUMN host_routes jsonb NOT NULL DEFAULT '[]',
    ADD COLUMN enabled     boolean NOT NULL DEFAULT true;

ALTER TABLE nic
    ADD COLUMN is_default boolean NOT NULL DEFAULT true,  -- it carries its VM's default route
    ADD COLUMN host_name  text;
UPDATE nic SET is_default = device_index = (SELECT min(device_index) FROM nic AS other WHERE other.vm_uuid = nic.vm_uuid);

CREATE TABLE service_provider (
    uuid          uuid PRIMARY KEY,                -- derived from the name
    name          text NOT NULL UNIQUE,
    service_types text[] NOT NULL
);

CREATE TABLE l2_service_provider (
    l2_uuid       uuid NOT NULL REFERENCES l2_network ON DELETE CASCADE,
    provider_uuid uuid NOT NULL REFERENCES service_provider,
    PRIMARY KEY (l2_uuid, provider_uuid)
);

-- The key is the rule: one provider for each service type of an L3 network.
CREATE TABLE l3_service (
    l3_uuid       uuid NOT NULL REFERENCES l3_network ON DELETE CASCADE,
    service_type  text NOT NULL,
    provider_uuid uuid NOT NULL REFERENCES service_provider,
    config        jsonb NOT NULL DEFAULT '{}',
    PRIMARY KEY (l3_uuid, service_type)
);

CREATE TABLE service (
    uuid         uuid PRIMARY KEY,                 -- derived from kind, subject and part
    provider     text NOT NULL,
    kind         text NOT NULL,
    subject_uuid uuid NOT NULL,
    part         integer NOT NULL,
    problem      jsonb,                            -- why it is nowhere although it is wanted
    since        timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX service_subject ON service (subject_uuid);

CREATE TABLE service_on_host (
    service_uuid        uuid NOT NULL REFERENCES service,
    host_uuid           uuid NOT NULL REFERENCES host,
    desired             text NOT NULL CHECK (desired IN ('present', 'absent')),
    generation          bigint NOT NULL,
    observed_generation bigint,
    state               text NOT NULL CHECK (state IN ('pending', 'applying', 'applied', 'failed', 'removing')),
    spec                jsonb NOT NULL,            -- as it was told last
    error               jsonb,
    attempts            integer NOT NULL DEFAULT 0,
    retry_at            timestamptz,
    since               timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (host_uuid, service_uuid)
);
CREATE INDEX service_on_host_service ON service_on_host (service_uuid);
CREATE INDEX service_on_host_retry ON service_on_host (retry_at) WHERE retry_at IS NOT NULL;

-- Only ever added by those who change something, taken by whoever looks: nobody waits for anybody.
CREATE TABLE stale_service (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    service_uuid uuid NOT NULL REFERENCES service,
    due_at       timestamptz NOT NULL
);
CREATE INDEX stale_service_due ON stale_service (due_at);
CREATE INDEX stale_service_service ON stale_service (service_uuid);

-- Addresses that an instance has of IPAM for itself: its server's, its outside's.
CREATE TABLE service_address (
    service_uuid  uuid NOT NULL REFERENCES service,
    purpose       text NOT NULL,
    ip_version    integer NOT NULL,
    l3_uuid       uuid NOT NULL REFERENCES l3_network,
    used_ip_uuid  uuid NOT NULL,                   -- of the allocation at IPAM
    ip            inet NOT NULL,
    prefix_length integer NOT NULL,
    gateway       inet,
    PRIMARY KEY (service_uuid, purpose, ip_version)
);
