"""Whatever the spec, nft and dnsmasq take what is written for them."""

import random
import shutil
import subprocess
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from viaduct_agent.services import flat_rules, translation
from viaduct_agent.services.dnsmasq.config import CONF, Served, files
from viaduct_agent.services.nft import Table
from viaduct_common.messages.services.specs import DhcpSpec, DnsSpec, EipRule, PortForwardingRule, ServedNic

from .world import World

pytestmark = pytest.mark.lab
INSIDE = (ip_network("10.0.0.0/24"), ip_network("fd00::/64"))
PREFIX = {4: ("203.0.113.{}", "10.0.0.{}"), 6: ("2001:db8::{}", "fd00::{}")}


def some_rules(draw: random.Random) -> translation.Rules:
    """Any number of everything, of both versions."""
    eips, forwardings = [], []
    for version in (4, 6):
        public, private = PREFIX[version]
        for number in draw.sample(range(1, 99), draw.randint(0, 4)):
            ips = {"public_ip": ip_address(public.format(number)), "private_ip": ip_address(private.format(number))}
            eips.append(EipRule(eip_uuid=uuid4(), **ips))
        starts = range(1000, 1000 + 100 * draw.randint(0, 3), 100)
        forwardings += [some_forwarding(draw, version, start) for start in starts]
    return translation.Rules(
        inside=INSIDE[: draw.randint(1, 2)],
        eips=tuple(eips),
        forwardings=tuple(forwardings),
        snat=tuple(ip_address(PREFIX[version][0].format(2)) for version in draw.sample([4, 6], draw.randint(0, 2))),
        marks=draw.choice([None, {"outa": 0x10001, "outb": 0x7FFFFFFF}]),
        udp_ports=draw.choice([(), (67, 547, 53)]),
        tcp_ports=draw.choice([(), (53,)]),
    )


def some_forwarding(draw: random.Random, version: int, start: int) -> PortForwardingRule:
    public, private = PREFIX[version]
    allowed = ip_network("198.51.100.0/24" if version == 4 else "2001:db8:1::/48")
    return PortForwardingRule(
        rule_uuid=uuid4(),
        protocol=draw.choice(["TCP", "UDP"]),
        public_ip=ip_address(public.format(100)),
        private_ip=ip_address(private.format(7)),
        public_start=start,
        public_end=start + draw.choice([0, 0, 1, 50]),
        private_start=draw.choice([start, start + 7]),
        allowed_cidr=draw.choice([None, allowed]),
    )


def some_kept(draw: random.Random) -> flat_rules.Kept:
    taps = tuple(f"vnic{number:011x}" for number in range(draw.randint(0, 3)))
    both = (ip_address("10.0.0.11"), ip_address("fd00::11"))
    return flat_rules.Kept(
        name="viaduct_flat_" + uuid4().hex,
        leg="vs0123456789ab",
        mac="fa:00:00:00:03:01",
        networks=INSIDE,
        servers=(ip_address("10.0.0.2"), ip_address("fd00::2")),
        taps=taps,
        translated={tap: both[: draw.randint(1, 2)] for tap in taps[:1] if draw.random() < 0.7},
        gateways=draw.choice([(), (ip_address("10.0.0.1"), ip_address("fd00::1"))]),
        dhcp=draw.random() < 0.5,
    )


@pytest.mark.parametrize("seed", range(8))
def test_nft_takes_every_table_and_replaces_it_by_itself(world: World, seed: int) -> None:
    """In one transaction each; the second time over the first."""
    draw = random.Random(seed)
    tables: list[Table] = []
    for _ in range(6):
        tables += [translation.table(some_rules(draw)), flat_rules.table(some_kept(draw))]
    for table in tables:
        text = world.host.directory / "table"
        text.write_text(table.transaction)
        for _ in range(2):
            world.host.run(f"nft -f {text}")


@pytest.mark.parametrize(
    ("dhcp", "dns"),
    [
        ({}, None),
        (None, {}),
        (
            {"routers": ["10.0.0.1", "fd00::1"], "dns_servers": ["fd00::1"], "domain": "a.example"},
            {"domain": "b.example"},
        ),
        ({"routes": [{"prefix": "0.0.0.0/0", "next_hop": "10.0.0.9"}]}, {"forwarders": ["9.9.9.9", "2620:fe::fe"]}),
    ],
    ids=["dhcp", "dns", "both", "routes"],
)
def test_dnsmasq_takes_its_configuration(tmp_path: Path, dhcp: Any, dns: Any) -> None:
    """And what it reads on SIGHUP, which its test reads, too."""
    nic = ServedNic(
        nic_uuid=uuid4(), mac="fa:00:00:00:00:01", host_name="web", ips=[ip_address("10.0.0.5"), ip_address("fd00::5")]
    )
    served = Served(
        UUID(int=3),
        "inside",
        (ip_interface("10.0.0.1/24"), ip_interface("fd00::1/64")),
        (nic,),
        None if dhcp is None else DhcpSpec.model_validate({"mtu": 1450, **dhcp}),
        None
        if dns is None
        else DnsSpec.model_validate({**dns, "records": [{"host_name": "web", "ips": ["10.0.0.5"]}]}),
    )
    for name, text in files(served, str(tmp_path)).items():
        (tmp_path / name).write_text(text)
    program = shutil.which("dnsmasq") or "/usr/sbin/dnsmasq"
    argv = [program, "--test", f"--conf-file={tmp_path / CONF}"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert "syntax check OK" in done.stderr, done.stderr
