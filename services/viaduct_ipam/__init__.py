"""The IPAM service: hands out the addresses of L3 ranges, kept in Postgres."""
