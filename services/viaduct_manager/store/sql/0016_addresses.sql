-- Public addresses: VIPs, and what they are used for. Of two requests that want one thing the constraints let one
-- through.

CREATE TABLE vip (
    uuid           uuid PRIMARY KEY,
    name           text NOT NULL,
    description    text,
    l3_uuid        uuid NOT NULL REFERENCES l3_network,
    ip             inet NOT NULL,
    ip_version     integer NOT NULL,
    prefix_length  integer NOT NULL,
    gateway        inet,
    used_ip_uuid   uuid NOT NULL UNIQUE,            -- of the allocation at IPAM
    used_for       text,                            -- the service type that uses it
    serves_l3_uuid uuid REFERENCES l3_network,      -- a provider's own, for this L3 network
    system         boolean NOT NULL GENERATED ALWAYS AS (serves_l3_uuid IS NOT NULL) STORED,
    enabled        boolean NOT NULL DEFAULT true,
    revision       integer NOT NULL DEFAULT 1,
    created_at     timestamptz NOT NULL DEFAULT now(),
    updated_at     timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT vip_use UNIQUE (uuid, used_for),     -- what uses it refers to both: there is one use
    CONSTRAINT vip_system_is_used CHECK (serves_l3_uuid IS NULL OR used_for IS NOT NULL)
);
CREATE INDEX vip_l3 ON vip (l3_uuid);
CREATE UNIQUE INDEX vip_of_service ON vip (serves_l3_uuid, used_for) WHERE serves_l3_uuid IS NOT NULL;

-- Given up, and IPAM is still to be told.
CREATE TABLE vip_gone (
    used_ip_uuid uuid PRIMARY KEY,
    vip_uuid     uuid NOT NULL,
    due_at       timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX vip_gone_vip ON vip_gone (vip_uuid);

-- `private_ip` counts while there is a NIC. A NIC that goes without having been asked (one that is undone) leaves it.
CREATE TABLE eip (
    uuid        uuid PRIMARY KEY,
    name        text NOT NULL,
    description text,
    vip_uuid    uuid NOT NULL CONSTRAINT eip_vip UNIQUE,
    used_for    text NOT NULL DEFAULT 'EIP' CHECK (used_for = 'EIP'),
    ip_version  integer NOT NULL,
    nic_uuid    uuid REFERENCES nic ON DELETE SET NULL,
    private_ip  inet,
    enabled     boolean NOT NULL DEFAULT true,
    revision    integer NOT NULL DEFAULT 1,
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT eip_attached CHECK (nic_uuid IS NULL OR private_ip IS NOT NULL),
    CONSTRAINT eip_use FOREIGN KEY (vip_uuid, used_for) REFERENCES vip (uuid, used_for)
);
CREATE UNIQUE INDEX eip_of_nic ON eip (nic_uuid, ip_version) WHERE nic_uuid IS NOT NULL;

-- `l3_uuid` is the NIC's: all rules of a VIP are served in one place.
CREATE TABLE port_forwarding (
    uuid               uuid PRIMARY KEY,
    name               text NOT NULL,
    description        text,
    vip_uuid           uuid NOT NULL,
    used_for           text NOT NULL DEFAULT 'PortForwarding' CHECK (used_for = 'PortForwarding'),
    ip_version         integer NOT NULL,
    protocol           text NOT NULL CHECK (protocol IN ('TCP', 'UDP')),
    vip_ports          int4range NOT NULL CHECK (vip_ports <@ int4range(1, 65535, '[]') AND NOT isempty(vip_ports)),
    private_port_start integer NOT NULL,
    allowed_cidr       cidr,
    nic_uuid           uuid REFERENCES nic ON DELETE SET NULL,
    l3_uuid            uuid,
    private_ip         inet,
    enabled            boolean NOT NULL DEFAULT true,
    revision           integer NOT NULL DEFAULT 1,
    created_at         timestamptz NOT NULL DEFAULT now(),
    updated_at         timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT port_forwarding_attached CHECK (nic_uuid IS NULL OR (private_ip IS NOT NULL AND l3_uuid IS NOT NULL)),
    CONSTRAINT port_forwarding_private_ports
        CHECK (private_port_start >= 1 AND private_port_start + upper(vip_ports) - lower(vip_ports) - 1 <= 65535),
    CONSTRAINT port_forwarding_use FOREIGN KEY (vip_uuid, used_for) REFERENCES vip (uuid, used_for),
    CONSTRAINT port_forwarding_overlap EXCLUDE USING gist (vip_uuid WITH =, protocol WITH =, vip_ports WITH &&),
    CONSTRAINT port_forwarding_nic_vip
        EXCLUDE USING gist (nic_uuid WITH =, ip_version WITH =, vip_uuid WITH <>) WHERE (nic_uuid IS NOT NULL),
    CONSTRAINT port_forwarding_vip_l3
        EXCLUDE USING gist (vip_uuid WITH =, l3_uuid WITH <>) WHERE (nic_uuid IS NOT NULL)
);
CREATE INDEX port_forwarding_nic ON port_forwarding (nic_uuid) WHERE nic_uuid IS NOT NULL;
