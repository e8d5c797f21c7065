"""Network services on this host: routers, DHCP and DNS, address translation, security groups."""
