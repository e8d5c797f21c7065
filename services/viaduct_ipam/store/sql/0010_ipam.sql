-- Scopes, ranges, reservations and used addresses.

-- For the exclusion constraint below: equality of a uuid in a GiST index. It may have been made by the superuser.
CREATE EXTENSION IF NOT EXISTS btree_gist;

-- 10.0.0.50 and 10.0.0.50/24 are different inet values: an address of ours never has a mask.
CREATE DOMAIN host_address AS inet CHECK (masklen(VALUE) = CASE family(VALUE) WHEN 4 THEN 32 ELSE 128 END);

-- No subtype_diff: a difference of an IPv4 and an IPv6 address is an error, and one GiST page may hold both.
CREATE TYPE address_span AS RANGE (subtype = inet);

-- An L3 network. Whoever changes anything below it first locks this row: so of one L3 network, one at a time.
CREATE TABLE scope (
    l3_network_uuid uuid        PRIMARY KEY,
    l2_network_uuid uuid        NOT NULL,
    zone_uuid       uuid        NOT NULL,
    strategy        text        NOT NULL,
    last_given_v4   host_address,           -- what next fit gave last, whichever range it is of
    last_given_v6   host_address,
    created_at      timestamptz NOT NULL DEFAULT now(),
    UNIQUE (l3_network_uuid, l2_network_uuid),
    CHECK (family(last_given_v4) = 4 AND family(last_given_v6) = 6)
)
WITH (fillfactor = 70); -- room for updates in place: every allocation locks a row, next fit writes it
CREATE INDEX scope_zone ON scope (zone_uuid);

CREATE TABLE ip_range (
    uuid            uuid         PRIMARY KEY DEFAULT gen_random_uuid(),
    name            text,
    type            text         NOT NULL CHECK (type IN ('normal', 'addressPool')),
    l3_network_uuid uuid         NOT NULL,
    l2_network_uuid uuid         NOT NULL,
    start_ip        host_address NOT NULL,  -- both ends inclusive
    end_ip          host_address NOT NULL,
    prefix_length   smallint     NOT NULL,
    gateway         host_address,
    used_count      bigint       NOT NULL DEFAULT 0 CHECK (used_count >= 0),
    last_given      host_address,           -- what next fit gave last of it
    created_at      timestamptz  NOT NULL DEFAULT now(),
    span            address_span NOT NULL GENERATED ALWAYS AS (address_span(start_ip, end_ip, '[]')) STORED,
    UNIQUE (uuid, l3_network_uuid, l2_network_uuid),
    FOREIGN KEY (l3_network_uuid, l2_network_uuid) REFERENCES scope (l3_network_uuid, l2_network_uuid),
    CHECK (family(start_ip) = family(end_ip) AND start_ip <= end_ip),
    CHECK (gateway IS NULL OR family(gateway) = family(start_ip)),
    CHECK (prefix_length BETWEEN 1 AND CASE family(start_ip) WHEN 4 THEN 32 ELSE 128 END),
    -- Ranges on one L2 network never overlap, whichever L3 network they belong to.
    CONSTRAINT ip_range_no_overlap EXCLUDE USING gist (l2_network_uuid WITH =, span WITH &&)
)
WITH (fillfactor = 70);
CREATE INDEX ip_range_l3 ON ip_range (l3_network_uuid, start_ip);

CREATE TABLE reservation (
    uuid            uuid         PRIMARY KEY DEFAULT gen_random_uuid(),
    l3_network_uuid uuid         NOT NULL REFERENCES scope,
    start_ip        host_address NOT NULL,  -- both ends inclusive
    end_ip          host_address NOT NULL,
    reason          text,
    created_at      timestamptz  NOT NULL DEFAULT now(),
    CHECK (family(start_ip) = family(end_ip) AND start_ip <= end_ip)
);
CREATE INDEX reservation_l3 ON reservation (l3_network_uuid, start_ip);

-- 256 addresses with equal upper bits, made when the first of them is used: an IPv6 /64 needs no rows in advance.
-- The leftmost bit is the address first_ip. A bit of `used` is set exactly while a row of used_ip has its address.
CREATE TABLE address_block (
    range_uuid uuid         NOT NULL REFERENCES ip_range,
    first_ip   host_address NOT NULL,
    assignable bit(256)     NOT NULL,       -- what the range can hand out of it
    used       bit(256)     NOT NULL,
    is_full    boolean      NOT NULL GENERATED ALWAYS AS (used = assignable) STORED,
    PRIMARY KEY (range_uuid, first_ip),
    CONSTRAINT address_block_only_assignable CHECK (used & assignable = used)
)
WITH (fillfactor = 50);
CREATE INDEX address_block_with_room ON address_block (range_uuid, first_ip) WHERE NOT is_full;

CREATE TABLE used_ip (
    uuid            uuid         PRIMARY KEY DEFAULT gen_random_uuid(),
    l2_network_uuid uuid         NOT NULL,
    l3_network_uuid uuid         NOT NULL,
    range_uuid      uuid         NOT NULL,
    ip              host_address NOT NULL,
    owner           text,
    allocated_at    timestamptz  NOT NULL DEFAULT now(),
    -- The last line of defence, whatever the code does: no address twice on one L2 network, no range deleted under
    -- its addresses.
    CONSTRAINT used_ip_once UNIQUE (l2_network_uuid, ip),
    CONSTRAINT used_ip_in_range FOREIGN KEY (range_uuid, l3_network_uuid, l2_network_uuid)
        REFERENCES ip_range (uuid, l3_network_uuid, l2_network_uuid)
)
WITH (autovacuum_vacuum_scale_factor = 0.02);
CREATE INDEX used_ip_l3 ON used_ip (l3_network_uuid, ip);
CREATE INDEX used_ip_range ON used_ip (range_uuid);
CREATE INDEX used_ip_owner ON used_ip (owner) WHERE owner IS NOT NULL;
