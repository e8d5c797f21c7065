"""`owner.lookup`: whom the manager knows."""

from uuid import uuid4

from integration.manager.conftest import Fleet

from viaduct_common.client import ViaductClient


async def test_whatever_the_manager_keeps_is_known(fleet: Fleet, ipam: object) -> None:
    """Zones, clusters, hosts, L2 and L3 networks, by their uuids; nothing once it is gone."""
    client = fleet.client
    host = await client.host.create(cluster_uuid=fleet.cluster_uuid, name="one")
    l2 = await fleet.network()
    l3 = await client.l3.create(l2_network_uuid=l2.uuid, name="blue")
    kept = [str(uuid) for uuid in (l3.uuid, fleet.zone_uuid, host.uuid, l2.uuid, fleet.cluster_uuid)]

    assert await client.owner.look_up(owners=kept) == kept
    await client.l3.delete(uuid=l3.uuid)
    assert await client.owner.look_up(owners=kept) == kept[1:]


async def test_everybody_else_is_unknown(client: ViaductClient) -> None:
    """Names, uuids of nothing, and uuids written in another way; who is known is answered as he was written, once."""
    zone = await client.zone.create(name="zone")
    written = str(zone.uuid)
    strangers = [
        "vm-1",
        str(uuid4()),
        f"{{{written}}}",
        zone.uuid.hex,
        f"urn:uuid:{written}",
        f"{written} ",
        "\u0661" * 32,
    ]

    assert await client.owner.look_up(owners=strangers) == []
    asked = ["vm-1", written.upper(), written, *strangers, written]
    assert await client.owner.look_up(owners=asked) == list(dict.fromkeys([written.upper(), written]))
    assert await client.owner.look_up(owners=[]) == []
    assert await client.owner.look_up(owners=[str(uuid4()) for _ in range(999)] + [written]) == [written]
