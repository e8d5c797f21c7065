-- Revisions, cooling, leases, reservations for somebody, IPv6 address modes, and who held what.

-- Every change below a scope raises `revision`; what is not an allocation or a release (ranges, reservations, the
-- settings) raises `layout_revision` as well. Who read a state and writes upon it names the revision it has read.
ALTER TABLE scope
    ADD COLUMN cooling_seconds integer  NOT NULL DEFAULT 0 CHECK (cooling_seconds >= 0),
    ADD COLUMN revision        bigint   NOT NULL DEFAULT 0,
    ADD COLUMN layout_revision bigint   NOT NULL DEFAULT 0,
    ADD COLUMN fill_level_v4   smallint NOT NULL DEFAULT 0, -- the level last announced: 0, 80, 95 or 100 (%)
    ADD COLUMN fill_level_v6   smallint NOT NULL DEFAULT 0;

-- A bit of address_block.used is set while its address is used or cooling. Of these `taken_reserved_count` lie in a
-- reservation: so the capacity of a range is a sum of counters, however full it is.
ALTER TABLE ip_range
    ADD COLUMN address_mode         text   CHECK (address_mode IN ('stateful', 'slaac', 'statelessDhcp')),
    ADD COLUMN cooling_count        bigint NOT NULL DEFAULT 0 CHECK (cooling_count >= 0),
    ADD COLUMN taken_reserved_count bigint NOT NULL DEFAULT 0 CHECK (taken_reserved_count >= 0);
UPDATE ip_range SET address_mode = 'stateful' WHERE family(start_ip) = 6;
UPDATE ip_range SET taken_reserved_count = (
    SELECT count(*) FROM used_ip u
    WHERE u.range_uuid = ip_range.uuid AND EXISTS (
        SELECT FROM reservation v
        WHERE v.l3_network_uuid = u.l3_network_uuid AND u.ip >= v.start_ip AND u.ip <= v.end_ip));
ALTER TABLE ip_range
    ADD CONSTRAINT ip_range_address_mode CHECK ((family(start_ip) = 6) = (address_mode IS NOT NULL));

ALTER TABLE reservation
    ADD COLUMN owner text,
    ADD COLUMN mac   macaddr,
    ADD CONSTRAINT reservation_for_one CHECK (start_ip = end_ip OR (owner IS NULL AND mac IS NULL));
CREATE INDEX reservation_owner ON reservation (owner) WHERE owner IS NOT NULL;
CREATE INDEX reservation_mac ON reservation (mac) WHERE mac IS NOT NULL;

-- The search leans on this: the block behind a full one is stored, if the range reaches so far. So from a block that
-- is full the next one with room is found by one look at the index of blocks with room.
INSERT INTO address_block (range_uuid, first_ip, assignable, used)
    SELECT full_.range_uuid, full_.first_ip + 256, r.assignable, repeat('0', 256)::bit(256)
    FROM address_block AS full_
    JOIN ip_range ON ip_range.uuid = full_.range_uuid
    CROSS JOIN LATERAL (
        SELECT string_agg(
            CASE WHEN full_.first_ip + 256 + k BETWEEN ip_range.start_ip AND ip_range.end_ip
                  AND full_.first_ip + 256 + k IS DISTINCT FROM ip_range.gateway
                  AND (family(ip_range.start_ip) = 6 OR ip_range.prefix_length >= 31
                       OR full_.first_ip + 256 + k <> host(broadcast(set_masklen(ip_range.start_ip::inet, ip_range.prefix_length)))::inet)
                 THEN '1' ELSE '0' END, '' ORDER BY k)::bit(256) AS assignable
        FROM generate_series(0, 255) AS k
    ) AS r
    WHERE full_.is_full AND full_.first_ip + 255 < ip_range.end_ip
    ON CONFLICT DO NOTHING;

ALTER TABLE used_ip
    ADD COLUMN mac                  macaddr,
    ADD COLUMN expires_at           timestamptz,            -- a lease; NULL: it does not end by itself
    ADD COLUMN allocated_by         text NOT NULL DEFAULT '', -- the broker-validated user
    ADD COLUMN allocated_by_message uuid;
CREATE INDEX used_ip_expires ON used_ip (expires_at) WHERE expires_at IS NOT NULL;

-- Released, and not given to another owner before `until`. Its bit stays set.
CREATE TABLE cooling_ip (
    l3_network_uuid uuid         NOT NULL,
    ip              host_address NOT NULL,
    range_uuid      uuid         NOT NULL REFERENCES ip_range,
    owner           text,
    until           timestamptz  NOT NULL,
    PRIMARY KEY (l3_network_uuid, ip)
)
WITH (autovacuum_vacuum_scale_factor = 0.02);
CREATE INDEX cooling_ip_until ON cooling_ip (until);
CREATE INDEX cooling_ip_range ON cooling_ip (range_uuid);

-- Holdings that have ended; those that last are in used_ip. Kept as long as the operator wants.
CREATE TABLE ip_history (
    uuid                 uuid         PRIMARY KEY,  -- of the allocation
    l3_network_uuid      uuid         NOT NULL,
    ip                   host_address NOT NULL,
    owner                text,
    mac                  macaddr,
    allocated_at         timestamptz  NOT NULL,
    allocated_by         text         NOT NULL,
    allocated_by_message uuid,
    ended_at             timestamptz  NOT NULL,
    end_reason           text         NOT NULL CHECK (end_reason IN ('released', 'expired', 'reclaimed')),
    ended_by             text         NOT NULL,
    ended_by_message     uuid
)
WITH (autovacuum_vacuum_scale_factor = 0.02);
CREATE INDEX ip_history_ip ON ip_history (l3_network_uuid, ip, ended_at);
CREATE INDEX ip_history_owner ON ip_history (owner, l3_network_uuid, ended_at) WHERE owner IS NOT NULL;
CREATE INDEX ip_history_ended_at ON ip_history (ended_at);
