"""Open vSwitch by its database (OVSDB, RFC 7047): model, plan and operations are pure, worker and ovsdb do the I/O."""
