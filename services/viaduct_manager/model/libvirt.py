"""A NIC as an element of a libvirt domain (https://libvirt.org/formatdomain.html#network-interfaces)."""

from xml.etree.ElementTree import Element, SubElement, tostring


def interface_element(
    *,
    mac: str,
    bridge: str,
    device: str,
    mtu: int,
    vlan: int | None = None,
    virtual_port: str | None = None,
    parent: str | None = None,
    mode: str | None = None,
) -> str:
    """The `<interface type='bridge'>`: libvirt makes the tap `device` and plugs it into the bridge.

    With `parent` it is an `<interface type='direct'>`: libvirt makes the macvtap `device` on it, in `mode`. Its MTU is
    that of the NIC below, for libvirt takes no `<mtu>` there.

    Args:
        mtu: of the guest's interface and the tap, bytes.
        vlan: the tag of the port on the bridge, None for a port without.
        virtual_port: the type of a port that is no plain one, such as `openvswitch`.
    """
    interface = Element("interface", type="bridge" if parent is None else "direct")
    SubElement(interface, "mac", address=mac)
    source = SubElement(interface, "source", {"bridge": bridge} if parent is None else {"dev": parent})
    if mode is not None:
        source.set("mode", mode)
    if vlan is not None:
        SubElement(SubElement(interface, "vlan"), "tag", id=str(vlan))
    if virtual_port is not None:
        SubElement(interface, "virtualport", type=virtual_port)
    SubElement(interface, "target", dev=device)
    SubElement(interface, "model", type="virtio")
    if parent is None:
        SubElement(interface, "mtu", size=str(mtu))
    return tostring(interface, encoding="unicode")
