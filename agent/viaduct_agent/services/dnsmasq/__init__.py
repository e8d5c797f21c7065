"""DHCP, DNS and router advertisements by dnsmasq: its configuration, and one process for each instance."""
