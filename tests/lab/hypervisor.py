"""What libvirt does with an `<interface type='bridge'>` of a domain, done by hand: the element is what is proven.

Source: https://libvirt.org/formatdomain.html#bridge-to-lan and libvirt's src/util/virnetdevtap.c.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from xml.etree import ElementTree

from lab.machine import LabError

NEEDED = {"@type", "mac@address", "source@bridge", "target@dev", "model@type", "mtu@size"}
KNOWN = NEEDED | {"vlan/tag@id"}


@dataclass(frozen=True)
class Interface:
    """A NIC as its element says; `mtu` in bytes."""

    mac: str
    bridge: str
    device: str
    mtu: int
    vlan: int | None

    @classmethod
    def parse(cls, xml: str) -> "Interface":
        """Read an element.

        Raises:
            LabError: it lacks something, or has what is not understood here: nothing is passed over.
        """
        root = ElementTree.fromstring(xml)
        pairs = list(_flat(root, ""))
        said = dict(pairs)
        wrong = ({*said} - KNOWN) | (NEEDED - {*said})
        if root.tag != "interface" or len(said) != len(pairs) or wrong:
            raise LabError(f"{', '.join(sorted(wrong)) or 'something'} is missing or not understood: {xml}")
        if (said["@type"], said["model@type"]) != ("bridge", "virtio"):
            raise LabError(f"only virtio NICs on a bridge are understood: {xml}")
        vlan = int(said["vlan/tag@id"]) if "vlan/tag@id" in said else None
        return cls(said["mac@address"], said["source@bridge"], said["target@dev"], int(said["mtu@size"]), vlan)

    def qemu_arguments(self, number: int) -> list[str]:
        """The tap, which QEMU makes and which goes with it, and the card. `romfile=`: nothing is booted from it."""
        return [
            "-netdev", f"tap,id=nic{number},ifname={self.device},script=no,downscript=no",
            "-device", f"virtio-net-pci,netdev=nic{number},mac={self.mac},host_mtu={self.mtu},romfile=",
        ]  # fmt: skip

    def plug_commands(self) -> list[str]:
        """The commands that plug the tap in, in the host.

        The tap gets the guest's MAC with another first byte, so that the bridge never takes it for its own. A VLAN is
        the only one of its port, untagged towards the guest: libvirt does so on the kernel's bridges since 11.0.
        """
        commands = [
            f"ip link set {self.device} address fe{self.mac[2:]} mtu {self.mtu}",
            f"ip link set {self.device} master {self.bridge} up",
        ]
        if self.vlan is not None:
            commands.append(f"bridge vlan del dev {self.device} vid 1")
            commands.append(f"bridge vlan add dev {self.device} vid {self.vlan} pvid untagged")
        return commands


def _flat(element: ElementTree.Element, path: str) -> Iterator[tuple[str, str]]:
    """Every attribute below an element by its path, and every element that says nothing but its name."""
    for name, value in element.attrib.items():
        yield f"{path}@{name}", value
    if not element.attrib and not len(element):
        yield path, ""
    for child in element:
        yield from _flat(child, f"{path}/{child.tag}" if path else child.tag)
