-- L3 networks in depth, and what network services stand on: providers, who serves what, instances on hosts.

ALTER TABLE l3_network
    ADD COLUMN mtu         integer,
    ADD COLUMN host_routes jsonb NOT NULL DEFAULT '[]',
    ADD COLUMN enabled     boolean NOT NULL DEFAULT true;

ALTER TABLE nic
    ADD COLUMN is_default boolean NOT NULL DEFAULT true,  -- it carries its VM's default route
    ADD COLUMN host_name  text;
UPDATE nic SET is_default = device_index = (SELECT min(device_index) FROM nic AS other WHERE other.vm_uuid = nic.vm_uuid);

-- The name of a NIC that was given none: `ip-10-0-0-5`, `ip-fd00--5`; one label, so it must not end in a hyphen.
CREATE FUNCTION ip_host_name(ip inet) RETURNS text LANGUAGE sql IMMUTABLE
    AS $$ SELECT 'ip-' || regexp_replace(translate(host(ip), '.:', '--'), '-$', '-0') $$;
UPDATE nic SET host_name = ip_host_name((SELECT min(ip) FROM nic_ip WHERE nic_uuid = nic.uuid));
-- Names are compared as DNS does. A NIC that only waits for IPAM is in nobody's way.
CREATE UNIQUE INDEX nic_host_name ON nic (l3_uuid, lower(host_name)) WHERE state <> 'releasing';

-- A host's services are compared with its digest as its networks are, and beside them.
ALTER TABLE host
    ADD COLUMN services_synced_at timestamptz,
    ADD COLUMN services_differing integer NOT NULL DEFAULT 0;

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
    uuid          uuid PRIMARY KEY,                -- derived from kind, subject and part
    provider      text NOT NULL,
    kind          text NOT NULL,
    subject_uuid  uuid NOT NULL,
    part          integer NOT NULL,
    problem       jsonb,                           -- why it is nowhere although it is wanted, or was not looked at well
    since         timestamptz NOT NULL DEFAULT now(),
    -- Part of the ids of requests to IPAM: another after addresses were given up, so that no former answer comes back.
    address_epoch bigint NOT NULL DEFAULT nextval('generation')
);
CREATE INDEX service_subject ON service (subject_uuid);
CREATE INDEX service_problem ON service (uuid) WHERE problem IS NOT NULL;

CREATE TABLE service_on_host (
    service_uuid        uuid NOT NULL REFERENCES service,
    host_uuid           uuid NOT NULL REFERENCES host ON DELETE CASCADE,
    desired             text NOT NULL CHECK (desired IN ('present', 'absent')),
    generation          bigint NOT NULL,
    observed_generation bigint,
    state               text NOT NULL CHECK (state IN ('pending', 'applying', 'applied', 'failed', 'removing')),
    spec                jsonb NOT NULL,            -- as it was told last
    l2_uuids            uuid[] NOT NULL DEFAULT '{}', -- whose bridges it may still use there
    error               jsonb,
    attempts            integer NOT NULL DEFAULT 0,
    retry_at            timestamptz,
    since               timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (host_uuid, service_uuid)
) WITH (fillfactor = 70);
CREATE INDEX service_on_host_service ON service_on_host (service_uuid);
CREATE INDEX service_on_host_retry ON service_on_host (retry_at) WHERE retry_at IS NOT NULL;

-- Only ever added by those who change something, taken by whoever looks: nobody waits for anybody. So it names the
-- whole key, and not a row that two might have to make at the same moment.
CREATE TABLE stale_service (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    service_uuid uuid NOT NULL,
    provider     text NOT NULL,
    kind         text NOT NULL,
    subject_uuid uuid NOT NULL,
    part         integer NOT NULL,
    due_at       timestamptz NOT NULL
);
CREATE INDEX stale_service_due ON stale_service (due_at);
CREATE INDEX stale_service_service ON stale_service (service_uuid);

-- L3 networks whose surroundings changed: whoever looks asks the providers what that concerns.
CREATE TABLE stale_l3 (
    id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    l3_uuid uuid NOT NULL
);

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
CREATE INDEX service_address_l3 ON service_address (l3_uuid);

-- Given up, and IPAM is still to be told.
CREATE TABLE service_address_gone (
    used_ip_uuid uuid PRIMARY KEY,
    service_uuid uuid NOT NULL,
    l3_uuid      uuid NOT NULL REFERENCES l3_network,
    due_at       timestamptz NOT NULL DEFAULT now()
);

-- Operations that wait for instances: for the looks at marks up to `mark`, and then for what hosts were told by them.
CREATE TABLE service_wait (
    operation_uuid uuid PRIMARY KEY REFERENCES operation ON DELETE CASCADE,
    service_uuids  uuid[] NOT NULL,
    mark           bigint NOT NULL,
    floor          bigint                          -- a generation that is newer than all that those looks gave
);

-- What hosts are asked to compare, and what they say.
CREATE TABLE service_inquiry (
    operation_uuid uuid NOT NULL REFERENCES operation ON DELETE CASCADE,
    service_uuid   uuid NOT NULL,
    host_uuid      uuid NOT NULL,
    kind           text NOT NULL,
    command_id     uuid,                           -- by which the host is asked; null: it is away
    result         jsonb,
    PRIMARY KEY (operation_uuid, host_uuid, service_uuid)
);
CREATE INDEX service_inquiry_command ON service_inquiry (command_id) WHERE command_id IS NOT NULL;
