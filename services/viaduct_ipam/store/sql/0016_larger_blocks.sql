-- Blocks of 1024 addresses instead of 256. In a range that is nearly full a block has a few free addresses, and each
-- block that a batch takes from is a row to read and a row to write: so a quarter of them. Behind a full block the next is
-- stored, as before: a large one is full only if its last quarter was, and behind that one the next was stored.
CREATE TABLE larger_block (
    range_uuid uuid         NOT NULL,
    first_ip   host_address NOT NULL,
    assignable bit(1024)    NOT NULL,
    used       bit(1024)    NOT NULL
);

-- What the range can hand out of it: all between its bounds but the gateway and an IPv4 subnet's two edges.
INSERT INTO larger_block (range_uuid, first_ip, assignable, used)
    SELECT block.range_uuid, block.first_ip,
        string_agg(CASE WHEN is_open THEN '1' ELSE '0' END, '' ORDER BY k)::bit(1024),
        string_agg(coalesce(get_bit(former.used, k % 256)::text, '0'), '' ORDER BY k)::bit(1024)
    FROM (
        SELECT DISTINCT range_uuid,
            first_ip & CASE family(first_ip) WHEN 4 THEN inet '255.255.252.0'
                       ELSE inet 'ffff:ffff:ffff:ffff:ffff:ffff:ffff:fc00' END AS first_ip
        FROM address_block
    ) AS block
    JOIN ip_range ON ip_range.uuid = block.range_uuid
    CROSS JOIN LATERAL (
        SELECT host(network(subnet))::inet AS network, host(broadcast(subnet))::inet AS broadcast
        FROM set_masklen(ip_range.start_ip::inet, ip_range.prefix_length) AS subnet
    ) AS edges
    CROSS JOIN generate_series(0, 1023) AS k
    CROSS JOIN LATERAL (
        SELECT block.first_ip + k BETWEEN ip_range.start_ip AND ip_range.end_ip
           AND block.first_ip + k IS DISTINCT FROM ip_range.gateway
           AND (family(ip_range.start_ip) = 6 OR ip_range.prefix_length >= 31
                OR block.first_ip + k NOT IN (edges.network, edges.broadcast)) AS is_open
    ) AS bit
    LEFT JOIN address_block AS former
        ON former.range_uuid = block.range_uuid AND former.first_ip = block.first_ip + (k - k % 256)
    GROUP BY block.range_uuid, block.first_ip;

DROP TABLE address_block;
ALTER TABLE larger_block RENAME TO address_block;
ALTER TABLE address_block
    ADD COLUMN is_full  boolean NOT NULL GENERATED ALWAYS AS (used = assignable) STORED,
    ADD COLUMN is_empty boolean NOT NULL GENERATED ALWAYS AS (used = B'0'::bit(1024)) STORED,
    ADD PRIMARY KEY (range_uuid, first_ip),
    ADD CONSTRAINT address_block_range FOREIGN KEY (range_uuid) REFERENCES ip_range,
    ADD CONSTRAINT address_block_only_assignable CHECK (used & assignable = used),
    SET (fillfactor = 50); -- room for updates in place
CREATE INDEX address_block_with_room ON address_block (range_uuid, first_ip) WHERE NOT is_full;
CREATE INDEX address_block_empty ON address_block (range_uuid, first_ip) WHERE is_empty;
