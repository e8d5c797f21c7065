"""What can be listed, by which fields, and what a page can be sorted by."""

from viaduct_common.postgres.paging import Column, Listing
from viaduct_ipam.store.rows import RANGE_COLUMNS, USED_COLUMNS

SCOPES = Listing(
    select="SELECT * FROM scope",
    columns={
        "l3NetworkUuid": Column("l3_network_uuid", "uuid"),
        "l2NetworkUuid": Column("l2_network_uuid", "uuid"),
        "zoneUuid": Column("zone_uuid", "uuid"),
        "createdAt": Column("created_at", "timestamptz"),
    },
    key=Column("l3_network_uuid", "uuid"),
    default_sort="createdAt",
)
RANGES = Listing(
    select=f"""
        SELECT {RANGE_COLUMNS}, family(r.start_ip) AS ip_version FROM ip_range r
    """,
    columns={
        "uuid": Column("range_uuid", "uuid"),
        "l3NetworkUuid": Column("l3_network_uuid", "uuid"),
        "type": Column("range_type", "text"),
        "ipVersion": Column("ip_version", "integer"),
        "name": Column("coalesce(range_name, '')", "text"),
        "startIp": Column("start_ip", "inet"),
        "createdAt": Column("range_created_at", "timestamptz"),
    },
    key=Column("range_uuid", "uuid"),
    default_sort="startIp",
)
RESERVATIONS = Listing(
    select="SELECT * FROM reservation",
    columns={
        "uuid": Column("uuid", "uuid"),
        "l3NetworkUuid": Column("l3_network_uuid", "uuid"),
        "startIp": Column("start_ip", "inet"),
        # NULL compares with nothing, so a cursor could not point at it; the filter keeps to the index.
        "owner": Column("coalesce(owner, '')", "text", condition="owner = ANY({})"),
        "mac": Column("coalesce(mac, '00:00:00:00:00:00')", "macaddr", condition="mac = ANY({})"),
        "createdAt": Column("created_at", "timestamptz"),
    },
    key=Column("uuid", "uuid"),
    default_sort="startIp",
)
USED_IPS = Listing(
    select=f"""
        SELECT {USED_COLUMNS}, {RANGE_COLUMNS}, u.l3_network_uuid AS used_l3_network_uuid
        FROM used_ip u JOIN ip_range r ON r.uuid = u.range_uuid
    """,
    columns={
        "uuid": Column("uuid", "uuid"),
        "l3NetworkUuid": Column("used_l3_network_uuid", "uuid"),
        # The network leads to an index; the range alone has none.
        "rangeUuid": Column(
            "range_uuid",
            "uuid",
            condition="range_uuid = ANY({0}) AND used_l3_network_uuid IN "
            "(SELECT l3_network_uuid FROM ip_range WHERE uuid = ANY({0}))",
        ),
        "ip": Column("ip", "inet"),
        "owner": Column("coalesce(owner, '')", "text", condition="owner = ANY({})"),
        "allocatedAt": Column("allocated_at", "timestamptz"),
    },
    key=Column("uuid", "uuid"),
    default_sort="ip",
)
