-- Postgres reads and prepares all CHECKs of a table for each statement that updates it, whichever columns change: of each
-- batch of allocations that was a twentieth. The same rules, where only those pay who change what they are about.

CREATE DOMAIN counted AS bigint CHECK (VALUE >= 0);
CREATE DOMAIN ipv4_address AS host_address CHECK (family(VALUE) = 4);
CREATE DOMAIN ipv6_address AS host_address CHECK (family(VALUE) = 6);

ALTER TABLE scope
    DROP CONSTRAINT scope_check,
    DROP CONSTRAINT scope_cooling_seconds_check,
    ALTER COLUMN last_given_v4 TYPE ipv4_address,
    ALTER COLUMN last_given_v6 TYPE ipv6_address;
DROP TRIGGER ip_range_not_in_use ON ip_range; -- it reads a column whose type changes
ALTER TABLE ip_range
    DROP CONSTRAINT ip_range_used_count_check,
    DROP CONSTRAINT ip_range_cooling_count_check,
    DROP CONSTRAINT ip_range_taken_reserved_count_check,
    DROP CONSTRAINT ip_range_type_check,
    DROP CONSTRAINT ip_range_address_mode_check,
    DROP CONSTRAINT ip_range_address_mode,
    DROP CONSTRAINT ip_range_check,
    DROP CONSTRAINT ip_range_check1,
    DROP CONSTRAINT ip_range_check2,
    ALTER COLUMN used_count TYPE counted,
    ALTER COLUMN cooling_count TYPE counted,
    ALTER COLUMN taken_reserved_count TYPE counted;
CREATE TRIGGER ip_range_not_in_use BEFORE DELETE ON ip_range
    FOR EACH ROW WHEN (OLD.used_count > 0) EXECUTE FUNCTION refuse_range_in_use();

CREATE FUNCTION refuse_unsound() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE check_violation USING
        MESSAGE = format('this row of %s contradicts itself: %s', TG_TABLE_NAME, NEW), TABLE = TG_TABLE_NAME;
END
$$;
CREATE TRIGGER scope_is_sound BEFORE INSERT OR UPDATE OF cooling_seconds ON scope
    FOR EACH ROW WHEN (NEW.cooling_seconds < 0) EXECUTE FUNCTION refuse_unsound();
CREATE TRIGGER ip_range_is_sound
    BEFORE INSERT OR UPDATE OF type, start_ip, end_ip, prefix_length, gateway, address_mode ON ip_range
    FOR EACH ROW WHEN (NOT (
        NEW.type IN ('normal', 'addressPool')
        AND family(NEW.start_ip) = family(NEW.end_ip) AND NEW.start_ip <= NEW.end_ip
        AND NEW.prefix_length BETWEEN 1 AND CASE family(NEW.start_ip) WHEN 4 THEN 32 ELSE 128 END
        AND (NEW.gateway IS NULL OR family(NEW.gateway) = family(NEW.start_ip))
        AND (family(NEW.start_ip) = 6) = (NEW.address_mode IS NOT NULL)
        AND (NEW.address_mode IS NULL OR NEW.address_mode IN ('stateful', 'slaac', 'statelessDhcp'))
    )) EXECUTE FUNCTION refuse_unsound();
