-- Asking for the history by time, and finding blocks that nobody needs any more.

-- Holdings are listed by when they began. `ended_at` stands in the index so that what had ended before the time that is
-- asked for is passed over without a look at its row: a GiST index of the spans would make every release dearer by half.
CREATE INDEX used_ip_allocated_at ON used_ip (allocated_at, uuid);
CREATE INDEX ip_history_allocated_at ON ip_history (allocated_at, uuid, ended_at);

-- A column, because an index with `used` in its predicate would end that updates of `used` are done in place (HOT): of
-- this one it is only those that empty a block, or take the first address of an empty one.
ALTER TABLE address_block
    ADD COLUMN is_empty boolean NOT NULL GENERATED ALWAYS AS (used = B'0'::bit(256)) STORED;
CREATE INDEX address_block_empty ON address_block (range_uuid, first_ip) WHERE is_empty;
