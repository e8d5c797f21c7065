-- What an allocation costs in the database is mostly its indexes and checks: less of both, and none that guarded
-- something goes without a substitute.

-- The addresses of a range are found by its L3 network and its bounds: used_ip_l3.
DROP INDEX used_ip_range;

-- "No range is deleted under its addresses" was looked up for each address that was given out. It is enough to look
-- when a range is deleted: whoever gives an address out changes the range's counter in the same transaction, and so
-- holds its row.
ALTER TABLE used_ip DROP CONSTRAINT used_ip_in_range;
CREATE FUNCTION refuse_range_in_use() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE foreign_key_violation USING
        MESSAGE = format('range %s still has %s used addresses', OLD.uuid, OLD.used_count),
        CONSTRAINT = 'ip_range_not_in_use';
END
$$;
CREATE TRIGGER ip_range_not_in_use BEFORE DELETE ON ip_range
    FOR EACH ROW WHEN (OLD.used_count > 0) EXECUTE FUNCTION refuse_range_in_use();
