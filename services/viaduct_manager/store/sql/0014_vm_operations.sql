-- VMs' networks as operations, and what of a NIC is still to be done at IPAM.

-- What accounts give up is forgotten as soon as no host has it, so that its VNI is free: looked for all the time.
CREATE INDEX l2_network_deleted ON l2_network (uuid) WHERE deleted;

-- Of two requests about one VM at the same moment one gets through.
ALTER TABLE operation ADD COLUMN vm_uuid uuid;
CREATE UNIQUE INDEX operation_of_vm ON operation (vm_uuid) WHERE state = 'running' AND vm_uuid IS NOT NULL;

CREATE TABLE vm_operation (
    operation_uuid uuid PRIMARY KEY REFERENCES operation ON DELETE CASCADE,
    nic_uuids      uuid[] NOT NULL,                 -- in the order of the answer
    released       jsonb                            -- of a release: the inventories of what goes
);

ALTER TABLE nic
    ADD COLUMN required_ips inet[] NOT NULL DEFAULT '{}',
    -- `asked`: IPAM may have given addresses that are not recorded here.
    ADD COLUMN addresses    text NOT NULL DEFAULT 'none' CHECK (addresses IN ('none', 'asked', 'held')),
    ADD COLUMN todo         text CHECK (todo IN ('allocate', 'release')),
    ADD COLUMN due_at       timestamptz NOT NULL DEFAULT now(),
    ADD COLUMN error        jsonb,                  -- why IPAM gave it no address
    DROP CONSTRAINT nic_index,
    DROP CONSTRAINT nic_mac;
-- A NIC that only waits for IPAM to take its addresses back is in nobody's way.
CREATE UNIQUE INDEX nic_index ON nic (vm_uuid, device_index) WHERE state <> 'releasing';
CREATE UNIQUE INDEX nic_mac ON nic (l2_uuid, mac) WHERE state <> 'releasing';
CREATE INDEX nic_vm ON nic (vm_uuid);
CREATE INDEX IF NOT EXISTS nic_l2 ON nic (l2_uuid);
CREATE INDEX nic_todo ON nic (due_at) WHERE todo IS NOT NULL;
