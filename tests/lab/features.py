"""What the running kernel can do, and so which kind of host serves a test."""

import subprocess
from collections.abc import Iterable
from functools import cache

# Each is tried in a network namespace that vanishes with the trial.
PROBES = {
    "bridge": "ip link add name p0 type bridge",
    "vlan": "ip link add name p0 type veth peer name p1 && ip link add link p0 name p0.10 type vlan id 10",
    "vlan_filtering": "ip link add name p0 type bridge vlan_filtering 1",
    "vxlan": "ip link add name p0 type vxlan id 10 dstport 4789",
    "gretap": "ip link add name p0 type gretap remote 192.0.2.1 local 192.0.2.2",
    "tun": "ip tuntap add dev p0 mode tap",
    "dummy": "ip link add name p0 type dummy",
}


@cache
def running_kernel_supports(feature: str) -> bool:
    """Tell whether this machine's own kernel has a feature of `PROBES`; needs root."""
    trial = ["unshare", "--net", "/bin/sh", "-c", PROBES[feature]]
    return subprocess.run(trial, stdin=subprocess.DEVNULL, capture_output=True, check=False).returncode == 0


def host_kind_for(features: Iterable[str]) -> str:
    """Return "netns" if the running kernel has all the features, else "uml", whose kernel has them."""
    return "netns" if all(running_kernel_supports(feature) for feature in features) else "uml"
