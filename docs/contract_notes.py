"""What the models do not say: the refusals of each request, and the meaning of fields whose name is not enough.

`generate_contract.py` sets this beside the models; `tests/contract/test_documents.py` fails when a type or field named
here no longer exists, or a new request type is missing.
"""

# Beside the refusals that every request may get; see "Errors that any request may get" in contract.md.
REFUSALS: dict[str, list[tuple[str, str]]] = {
    "zone.create": [("ALREADY_EXISTS", "the `uuid` is taken")],
    "zone.get": [("NOT_FOUND", "no such zone")],
    "zone.query": [],
    "zone.update": [("NOT_FOUND", "no such zone"), ("CONFLICT", "another `revision`")],
    "zone.delete": [("IN_USE", "a cluster, L2 or L3 network lies in it")],
    "cluster.create": [("NOT_FOUND", "no such zone"), ("ALREADY_EXISTS", "the `uuid` is taken")],
    "cluster.get": [("NOT_FOUND", "no such cluster")],
    "cluster.query": [],
    "cluster.update": [("NOT_FOUND", "no such cluster"), ("CONFLICT", "another `revision`")],
    "cluster.delete": [("IN_USE", "it has hosts, or an L2 network is attached")],
    "host.create": [
        ("NOT_FOUND", "no such cluster"),
        ("ALREADY_EXISTS", "the `uuid` is taken"),
        ("INTERNAL", "retryable: the broker did not make queue or user"),
    ],
    "host.get": [("NOT_FOUND", "no such host")],
    "host.query": [],
    "host.update": [("NOT_FOUND", "no such host"), ("CONFLICT", "another `revision`")],
    "host.setMaintenance": [("NOT_FOUND", "no such host")],
    "host.delete": [("INVALID_REQUEST", "inside a batch, while the host is connected")],
    "l2.create": [
        ("NOT_FOUND", "no such zone"),
        ("ALREADY_EXISTS", "the `uuid` is taken"),
        ("UNSUPPORTED_TYPE", "no such L2 type; `details.known` lists them"),
        ("INVALID_REQUEST", "a field of the type's own is missing, wrong or unknown"),
    ],
    "l2.get": [("NOT_FOUND", "no such L2 network")],
    "l2.query": [],
    "l2.update": [("NOT_FOUND", "no such L2 network"), ("CONFLICT", "another `revision`")],
    "l2.delete": [("IN_USE", "attached, or carries an L3 network; `details` name them")],
    "l2.attach": [
        ("NOT_FOUND", "no such L2 network or cluster"),
        ("ALREADY_EXISTS", "attached, or being attached; `details.state`"),
        ("L2_CONFLICT", "another zone; or the same interface and tag, or device name, as a network attached there"),
        ("UNSUPPORTED_TYPE", "no backend of the type for the cluster's hypervisor"),
        ("CONFLICT", "on a host: the name of a device is taken by a stranger"),
        ("PRECONDITION_FAILED", "on a host: the physical interface is missing or cannot be used"),
        ("BACKEND_FAILED", "on a host: the kernel refused"),
        ("TIMEOUT", "a host did not answer within `timeoutSeconds`"),
    ],
    "l2.detach": [
        ("NOT_FOUND", "no such L2 network or cluster, or it is not attached there"),
        ("CONFLICT", "an operation on this attachment runs; `details.operationUuid`"),
        ("IN_USE", "on a host: ports that are not ours; `details.ports`. Not with `force`"),
        ("BACKEND_FAILED", "on a host: the kernel refused"),
        ("TIMEOUT", "a host did not say within `timeoutSeconds` whether it can release"),
    ],
    "l2.check": [
        ("NOT_FOUND", "no such L2 network, cluster or host"),
        ("INVALID_REQUEST", "inside a batch, if a host has to be asked"),
    ],
    "l2.plan": [
        ("NOT_FOUND", "no such L2 network or cluster"),
        ("L2_CONFLICT", "as `l2.attach` would answer"),
        ("UNSUPPORTED_TYPE", "as `l2.attach` would answer"),
        ("INVALID_REQUEST", "inside a batch, if a host has to be asked"),
    ],
    "l2.candidateClusters": [("NOT_FOUND", "no such L2 network")],
    "l3.create": [
        ("NOT_FOUND", "no such L2 network"),
        ("ALREADY_EXISTS", "the `uuid` is taken"),
        ("TIMEOUT", "IPAM does not answer; nothing was kept"),
    ],
    "l3.get": [("NOT_FOUND", "no such L3 network")],
    "l3.query": [],
    "l3.update": [
        ("NOT_FOUND", "no such L3 network"),
        ("CONFLICT", "another `revision`"),
        ("TIMEOUT", "with `strategy`: IPAM does not answer; nothing was changed"),
    ],
    "l3.delete": [
        ("IN_USE", "an address of it is allocated"),
        ("TIMEOUT", "IPAM does not answer; nothing was changed"),
    ],
    "operation.get": [("NOT_FOUND", "no such operation, or it was forgotten")],
    "operation.query": [],
    "realization.query": [],
    "owner.lookup": [],
    "batch": [("INVALID_REQUEST", "no request, or more than 256; refusals of the single ones stand in the list")],
    "scope.register": [("CONFLICT", "known on another L2 network or in another zone")],
    "scope.get": [("NOT_FOUND", "no such L3 network")],
    "scope.query": [],
    "scope.delete": [("IN_USE", "an address of it is allocated")],
    "range.create": [
        ("NOT_FOUND", "no such L3 network"),
        ("IP_RANGE_CONFLICT", "overlaps a range on the same L2 network; `details.rangeUuid`"),
        (
            "INVALID_REQUEST",
            "a bad bound, netmask, gateway, CIDR or address mode; or another subnet, gateway or mode than its siblings",
        ),
    ],
    "range.get": [("NOT_FOUND", "no such range")],
    "range.query": [],
    "range.delete": [
        ("IN_USE", "addresses of it are allocated; `details.used`, some in `details.ips`"),
        ("IN_USE", "the last normal range beside address pools of its IP version; `details.addressPoolUuids`"),
    ],
    "reservation.create": [
        ("NOT_FOUND", "no such L3 network"),
        ("INVALID_REQUEST", "two IP versions, `endIp` below `startIp`, or `owner` or `mac` for more than one address"),
        ("CONFLICT", "the address is reserved for another `owner` or `mac`; `details.reservationUuid`"),
    ],
    "reservation.query": [],
    "reservation.delete": [],
    "ip.allocate": [
        ("NOT_FOUND", "no such L3 network, or it has no such range"),
        ("IP_IN_USE", "`requiredIp` cannot be had now; `details.reason` is `USED`, `GATEWAY` or `RESERVED`"),
        ("NOT_IN_RANGE", "`requiredIp` is in no range; or `NETWORK`, `BROADCAST` in `details.reason`"),
        ("EXHAUSTED", "fewer than `count` are free; `details.free`"),
        ("INVALID_REQUEST", "the request contradicts itself"),
    ],
    "ip.release": [("INVALID_REQUEST", "neither or both of `uuids` and `l3NetworkUuid` with `ips`")],
    "ip.get": [("NOT_FOUND", "no such allocation, or it was released")],
    "ip.query": [],
    "ip.check": [("NOT_FOUND", "no such L3 network")],
    "ip.capacity": [
        ("NOT_FOUND", "one of the L3 networks or ranges does not exist"),
        ("INVALID_REQUEST", "not exactly one of the three lists"),
    ],
    "ip.free": [
        ("NOT_FOUND", "no such L3 network or range"),
        ("INVALID_REQUEST", "not exactly one of `l3NetworkUuid` and `rangeUuid`"),
    ],
    "import.create": [],
    "import.add": [
        ("NOT_FOUND", "no such import"),
        ("CONFLICT", "it was applied; or a line is there already with other values, `details.line`"),
        ("INVALID_REQUEST", "a line is in `rows` twice"),
    ],
    "import.apply": [
        ("NOT_FOUND", "no such import"),
        ("IP_RANGE_CONFLICT", "a range was added meanwhile in an L3 network that was made meanwhile; try again"),
    ],
    "import.problems": [],
    "import.delete": [],
}

# By message type or model, then by field; `*` is any of them.
MEANINGS: dict[str, dict[str, str]] = {
    "*": {
        "revision": "counts changes; in an update: the one read before",
        "description": "a long description",
        "sort": "one field's name; a leading `-` sorts descending",
        "after": "cursor: what the page before ended with",
        "filters": "all must match; each is a value or a list of values, any of which matches",
        "bridgeName": "the bridge that VMs are plugged into",
        "createdAt": "",
        "updatedAt": "",
    },
    "zone.create": {"uuid": "chosen by the client; else derived from sender and message id"},
    "cluster.create": {"uuid": "as in `zone.create`"},
    "host.create": {
        "uuid": "as in `zone.create`",
        "tunnelIp": "kept and shown; no L2 type uses it yet",
        "labels": "kept and shown; at most 64",
    },
    "host.update": {"labels": "replaces all labels"},
    "host.delete": {"timeoutSeconds": "how long a connected host may take to release; then it is removed all the same"},
    "l2.create": {
        "uuid": "as in `zone.create`",
        "type": "`L2NoVlanNetwork`, `L2VlanNetwork`, or a plugin's",
        "physicalInterface": "a device, or a label that each host maps to its own device",
        "mtu": "of bridge and devices; default: the type's (1500)",
        "<own>": "fields of the type's own, see L2 types",
    },
    "l2.query": {"filters.clusterUuid": "attached to any of these clusters"},
    "l2.attach": {
        "wait": "true: answered at the end; false: answered at once with the running operation",
        "timeoutSeconds": "the operation's deadline; a rollback gets at most as long again, and at most 30 s",
        "onFailure": "`rollback`: all hosts or none; `keep`: the hosts that can have it keep it",
    },
    "l2.detach": {
        "wait": "as in `l2.attach`",
        "timeoutSeconds": "as in `l2.attach`",
        "force": "do not ask first; unplug ports that are not ours",
    },
    "l2.check": {
        "clusterUuid": "its hosts; without it and `hostUuid`: all clusters that it is attached to",
        "hostUuid": "this host alone",
    },
    "l3.create": {
        "uuid": "as in `zone.create`",
        "category": "kept and shown",
        "dns": "kept and shown; at most 16",
        "dnsDomain": "kept and shown",
        "ipVersion": "kept and shown; ranges of either version may be added",
        "strategy": "default of `ip.allocate` on this L3 network",
    },
    "l3.update": {"dns": "replaces all servers", "strategy": "IPAM is told"},
    "range.create": {
        "startIp": "first address, inclusive; with `endIp` and a netmask or prefix length",
        "endIp": "last address, inclusive",
        "netmask": "or `prefixLength`",
        "gateway": "never handed out. Default: by CIDR and `normal` the first address, by ends that of the siblings",
        "networkCidr": "instead of the four bounds",
        "type": "an `addressPool` is used unasked only when the normal ranges are full, and may lie in another subnet",
        "addressMode": "of IPv6; default `stateful`. The others want all of a /64, and are not for an `addressPool`",
    },
    "reservation.create": {
        "startIp": "inclusive",
        "endIp": "inclusive",
        "owner": "for whom a single address is kept",
        "mac": "for whom a single address is kept",
    },
    "ip.allocate": {
        "ipVersion": "default: that of `requiredIp` or of the range; else IPv4 if the L3 network has it",
        "rangeUuid": "from this range only",
        "requiredIp": "this address and no other",
        "strategy": "default: that of the L3 network",
        "excludedIps": "not these",
        "count": "all or none",
        "owner": "free text, to be found again by `ip.query`; not unique",
        "allowReserved": "a `requiredIp` may be a reserved one",
    },
    "ip.release": {"uuids": "of allocations, of any L3 networks", "ips": "addresses of `l3NetworkUuid`"},
    "ip.free": {"start": "inclusive; only addresses of its IP version"},
    "scope.register": {
        "strategy": "default: `firstAvailable`, or what it is already",
        "coolingSeconds": "default: 0, or what it is already. A shorter one holds also for what is cooling",
    },
    "owner.lookup": {"owners": "the answer has the known ones, as they are written here"},
    "batch": {"requests": "1 to 256; see Batch"},
    "BatchItem": {"messageId": "the idempotency key of this one", "type": "any type of the service but `batch`"},
    "L2NetworkInventory": {
        "attachedClusterUuids": "attached, degraded or detaching; not while `attaching` or being rolled back",
        "deviceNames": "every name that it takes on a host",
    },
    "HostInventory": {
        "state": "`connecting` (never heard), `connected`, `disconnected`",
        "credentials": "in the answer to `host.create` only",
        "capabilities": "the L2 types that its agent has backends for",
        "interfaces": "`InterfaceFact`s of the last hello",
        "health": "`HealthFact`s of the last hello",
    },
    "RealizationInventory": {
        "generation": "of the last order",
        "observedGeneration": "of the last order that the host is known to have done",
        "since": "when `state` last changed",
    },
    "OperationInventory": {"error": "the first failing host's; `details.hostUuid` names it"},
    "UsedIpInventory": {"owner": "as given at allocation"},
    "RangeInventory": {"networkCidr": "the subnet"},
    "L2Desired": {
        "l2Network": "the whole inventory, own fields included",
        "peers": "always empty so far: for tunnel types",
        "force": "in a release: unplug ports that are not ours",
    },
    "ItemResult": {
        "changes": "what was done, as `ip` commands",
        "tookMs": "its wait in the lane included",
        "status": "of a check",
        "differences": "of a check",
        "steps": "of a check: what realize or release would do",
    },
    "completion": {"commandId": "`message_id` of the command", "command": "its type"},
    "host.heartbeat": {
        "sequence": "counts from 1 in each session",
        "digest": "see Digest in architecture.md",
        "held": "how many networks",
    },
    "host.hello": {"sessionId": "new at each start of the agent", "holds": "what its marks say"},
    "Difference": {"device": "", "actual": "null: the device is missing"},
}

# By which fields a query can be sorted; the first is the default, `-` descending.
SORTS: dict[str, list[str]] = {
    "zone.query": ["createdAt", "name", "uuid"],
    "cluster.query": ["createdAt", "name", "uuid", "zoneUuid"],
    "host.query": ["createdAt", "clusterUuid", "name", "state", "uuid"],
    "l2.query": ["createdAt", "name", "physicalInterface", "type", "uuid", "zoneUuid"],
    "l3.query": ["createdAt", "category", "l2NetworkUuid", "name", "uuid", "zoneUuid"],
    "operation.query": ["-createdAt", "clusterUuid", "l2NetworkUuid", "state", "type", "uuid"],
    "realization.query": ["hostUuid", "l2NetworkUuid", "since", "state"],
    "range.query": ["startIp", "createdAt", "ipVersion", "l3NetworkUuid", "name", "type", "uuid"],
    "reservation.query": ["startIp", "createdAt", "l3NetworkUuid", "mac", "owner", "uuid"],
    "scope.query": ["createdAt", "l2NetworkUuid", "l3NetworkUuid", "zoneUuid"],
    "ip.query": ["ip", "allocatedAt", "l3NetworkUuid", "owner", "rangeUuid", "uuid"],
}

ERRORS: dict[str, tuple[str, str]] = {
    # code: (when, details)
    "INTERNAL": ("a bug, or at `host.create` the broker's management API; the log has more under the message id", ""),
    "INVALID_REQUEST": ("it can never be right as it is", "`field`: the camelCase path; `errors`: up to 20 of them"),
    "UNSUPPORTED_TYPE": ("no such message type, L2 type, or no backend of it", "`type`, `known`, `hypervisorType`"),
    "UNSUPPORTED_VERSION": ("the header `viaduct-version` names another major version", "`supported`"),
    "NOT_FOUND": ("it does not exist", "`kind`, `uuid`"),
    "ALREADY_EXISTS": ("the uuid is taken, or the attachment exists", "`kind`, `uuid`; `state`"),
    "CONFLICT": ("the state is another than the request assumed", "`revision`, `state`, `operationUuid`, `device`"),
    "L2_CONFLICT": ("two L2 networks want one place on a cluster's hosts", "`l2NetworkUuid`: the other; `about`"),
    "IP_RANGE_CONFLICT": ("ranges on one L2 network overlap", "`rangeUuid`: the other"),
    "IP_IN_USE": ("the required address cannot be had now", "`ip`, `reason`"),
    "NOT_IN_RANGE": ("no range ever hands out the required address", "`ip`, `reason`"),
    "SERVICE_CONFLICT": ("not sent yet: for network services", ""),
    "IN_USE": ("something depends on it", "`usedBy`, `clusterUuids`, `l3NetworkUuids`, `ports`, `ips`, `used`"),
    "EXHAUSTED": ("not so many addresses are free", "`wanted`, `free`"),
    "PRECONDITION_FAILED": ("a host is not fit for it; repeat it when the cause is gone", "`device`, `field`, ..."),
    "HOST_UNREACHABLE": ("the host does not answer", "`hostUuid`"),
    "BACKEND_FAILED": ("the host's kernel refused; the host is as it was before", "`step`, `device`, `errno`, `error`"),
    "TIMEOUT": ("not done in time; repeat it with the same message id to learn what became of it", "`messageId`"),
    "OVERLOADED": ("not sent yet: too much work is waiting", ""),
    "FORBIDDEN": ("the sender's role does not reach", "`required`"),
}

# Events: routing key (and `type`) -> body.
EVENTS: dict[str, str] = {
    **{f"zone.{what}": "[ZoneInventory](#object-zoneinventory)" for what in ("created", "updated", "deleted")},
    **{f"cluster.{what}": "[ClusterInventory](#object-clusterinventory)" for what in ("created", "updated", "deleted")},
    **{
        f"host.{what}": "[HostInventory](#object-hostinventory)"
        for what in ("created", "updated", "deleted", "connected", "disconnected")
    },
    "host.drift": "the agent's report [host.drift](#hostdrift), unchanged",
    **{
        f"l2.{what}": "[L2NetworkInventory](#object-l2networkinventory)"
        for what in ("created", "updated", "deleted", "attached", "detached")
    },
    **{f"l3.{what}": "[L3NetworkInventory](#object-l3networkinventory)" for what in ("created", "updated", "deleted")},
    "operation.finished": '`{"operation": ` [OperationInventory](#object-operationinventory) `}`, not of inquiries',
    "range.created": '`{"subject": ` [RangeInventory](#object-rangeinventory) `}`, one event per range',
    "range.deleted": '`{"subject": ` [RangeInventory](#object-rangeinventory) `}`',
    "scope.deleted": '`{"subject": ` [ScopeInventory](#object-scopeinventory) `}`',
    "ip.expired": '`{"subject": ` [UsedIpInventory](#object-usedipinventory) `}`: a lease ended by itself',
}

SETTINGS: dict[str, str] = {
    "amqp_url": "`amqp://user:password@host:port/vhost`",
    "postgres_url": "`postgresql://role:password@host:port/database`; each service has a schema of its own",
    "metrics_listen": "`address:port` of `/metrics`, `/livez`, `/readyz`; unset: none",
    "log_format": "`auto`: for people on a terminal, else JSON",
    "anonymous_role": "of a request without `user_id`; unset: refused",
    "roles": 'further broker users, as JSON: `{"compute": "operator"}`',
    "broker_api_url": "RabbitMQ's management API with a user tagged administrator: `http://user:password@host:15672`",
    "enrolment_secret_file": "holds hexadecimal digits; agents' passwords are derived from them",
    "host_queue_type": "of hosts' queues; never change it while there are hosts",
    "heartbeat_seconds": "what agents are set to; also how long a change may take before a host counts as different",
    "missed_heartbeats": "so many silent ones make a host `disconnected`",
    "caretaker_seconds": "between two rounds of deadlines, retries, lost hosts",
    "prefetch": "requests worked on at once; the rest wait in the queue",
    "connections": "to Postgres, of this process",
    "host_uuid": "from the answer to `host.create`",
    "username": "default: the host's uuid",
    "password_file": "default: systemd's credential `amqp_password`",
    "interface_map": "table: a label (`physicalInterface`) to this host's own device",
}
AGENT_SETTINGS = {
    "amqp_url": "`amqp://host:port/vhost`, without user and password",
    "heartbeat_seconds": "between two heartbeats; the manager must be set to the same",
}
