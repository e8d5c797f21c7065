-- Tunnelled networks, backends by cluster, what accounts have of networks with a VNI range, and VMs' NICs.
CREATE EXTENSION IF NOT EXISTS btree_gist;


ALTER TABLE cluster ADD COLUMN backends jsonb NOT NULL DEFAULT '{}';   -- backend by L2 type

-- What an account has of a network with a VNI range is a row of its own: realised, checked and released like any other,
-- but attached where its parent is, and shown only to who asks for it.
ALTER TABLE l2_network
    ADD COLUMN parent_uuid  uuid REFERENCES l2_network,
    ADD COLUMN account_uuid uuid,
    ADD COLUMN vni          integer,               -- of what an account has; the parent's range is in own_fields
    ADD COLUMN tunnelled    boolean NOT NULL DEFAULT false, -- as the type says; of what an account has the parent's counts
    ADD COLUMN at_vm_time   boolean NOT NULL DEFAULT false; -- realised only as what accounts have of it
CREATE UNIQUE INDEX l2_network_of_account ON l2_network (parent_uuid, account_uuid) WHERE NOT deleted;
CREATE UNIQUE INDEX l2_network_vni ON l2_network (parent_uuid, vni) WHERE parent_uuid IS NOT NULL;

CREATE INDEX l2_network_parent ON l2_network (parent_uuid) WHERE parent_uuid IS NOT NULL;

ALTER TABLE attachment ADD COLUMN tunnel_cidr cidr;
ALTER TABLE host
    ADD COLUMN addresses inet[] NOT NULL DEFAULT '{}',  -- of its last hello: one of them may be its tunnels' end
    ADD COLUMN differing integer NOT NULL DEFAULT 0;    -- heartbeats in a row whose digest was another than expected

-- What the host was last told of its tunnel's end and peers, as a digest; null: this generation was not sent yet.
ALTER TABLE realization ADD COLUMN told text;

-- Networks whose hosts may have to be told of other peers than they know. Only ever added to, so that nobody waits.
CREATE TABLE stale_peers (
    id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    l2_uuid uuid NOT NULL,
    due_at  timestamptz NOT NULL
);
CREATE INDEX stale_peers_due ON stale_peers (due_at);
CREATE INDEX stale_peers_l2 ON stale_peers (l2_uuid);

-- Numbers that a network takes on a cluster (VNIs, GRE keys): no two networks may share one.
CREATE TABLE attachment_span (
    cluster_uuid uuid NOT NULL,
    l2_uuid      uuid NOT NULL,
    space        text NOT NULL,                    -- `vni`, `gre`
    span         int8range NOT NULL,
    CONSTRAINT attachment_span_overlap EXCLUDE USING gist (cluster_uuid WITH =, space WITH =, span WITH &&),
    FOREIGN KEY (l2_uuid, cluster_uuid) REFERENCES attachment ON DELETE CASCADE
);
CREATE INDEX attachment_span_l2 ON attachment_span (l2_uuid, cluster_uuid);

-- `l2_uuid` is what hosts realise: for a network with a VNI range the account's.
CREATE TABLE nic (
    uuid                   uuid PRIMARY KEY,
    vm_uuid                uuid NOT NULL,
    host_uuid              uuid NOT NULL REFERENCES host,
    migrating_to_host_uuid uuid REFERENCES host,
    account_uuid           uuid NOT NULL,
    l3_uuid                uuid NOT NULL REFERENCES l3_network,
    l2_uuid                uuid NOT NULL REFERENCES l2_network,
    device_index           integer NOT NULL,
    device_name            text NOT NULL,
    mac                    macaddr NOT NULL,
    state                  text NOT NULL CHECK (state IN ('preparing', 'ready', 'releasing')),
    operation_uuid         uuid,                   -- that prepares, moves or releases it
    created_at             timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT nic_index UNIQUE (vm_uuid, device_index),
    CONSTRAINT nic_mac UNIQUE (l2_uuid, mac),
    CONSTRAINT nic_device UNIQUE (host_uuid, device_name)
);
CREATE INDEX nic_host ON nic (host_uuid, l2_uuid);
CREATE INDEX nic_migrating ON nic (migrating_to_host_uuid, l2_uuid) WHERE migrating_to_host_uuid IS NOT NULL;
CREATE INDEX nic_l3 ON nic (l3_uuid);
CREATE INDEX nic_operation ON nic (operation_uuid) WHERE operation_uuid IS NOT NULL;

CREATE TABLE nic_ip (
    uuid          uuid PRIMARY KEY,                -- of the allocation at IPAM
    nic_uuid      uuid NOT NULL REFERENCES nic ON DELETE CASCADE,
    ip            inet NOT NULL,
    prefix_length integer NOT NULL,
    netmask       inet,
    gateway       inet
);
CREATE INDEX nic_ip_nic ON nic_ip (nic_uuid);
