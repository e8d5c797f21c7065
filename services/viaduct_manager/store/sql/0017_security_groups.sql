-- Security groups: their rules, where NICs may be members, and which are. NICs that are being released count no more.

CREATE TABLE security_group (
    uuid        uuid PRIMARY KEY,
    name        text NOT NULL,
    description text,
    revision    integer NOT NULL DEFAULT 1,
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now()
);

-- `matches` says in one form which packets a rule is about: two that do the same with the same packets are one too many.
CREATE TABLE security_group_rule (
    uuid              uuid PRIMARY KEY,
    group_uuid        uuid NOT NULL REFERENCES security_group,
    place             bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
    direction         text NOT NULL CHECK (direction IN ('ingress', 'egress')),
    ip_version        integer NOT NULL CHECK (ip_version IN (4, 6)),
    protocol          text NOT NULL CHECK (protocol IN ('ALL', 'TCP', 'UDP', 'ICMP')),
    ports             jsonb NOT NULL DEFAULT '[]',   -- as they were given
    icmp_type         integer,
    icmp_code         integer,
    cidrs             cidr[] NOT NULL DEFAULT '{}',
    remote_group_uuid uuid REFERENCES security_group,
    action            text NOT NULL CHECK (action IN ('allow', 'drop')),
    priority          integer NOT NULL,
    enabled           boolean NOT NULL DEFAULT true,
    is_default        boolean NOT NULL DEFAULT false,
    description       text,
    matches           text NOT NULL,
    CONSTRAINT security_group_rule_once UNIQUE (group_uuid, matches, action)
);
CREATE INDEX security_group_rule_remote ON security_group_rule (remote_group_uuid) WHERE remote_group_uuid IS NOT NULL;

CREATE TABLE security_group_l3 (
    group_uuid uuid NOT NULL REFERENCES security_group ON DELETE CASCADE,
    l3_uuid    uuid NOT NULL REFERENCES l3_network ON DELETE CASCADE,
    PRIMARY KEY (group_uuid, l3_uuid)
);
CREATE INDEX security_group_l3_l3 ON security_group_l3 (l3_uuid);

-- `l3_uuid` is the NIC's: nobody is a member where the group is not attached. A VM's NICs are members before they are
-- recorded, in one transaction; `place` is the order in which a NIC's groups are asked.
CREATE TABLE security_group_member (
    nic_uuid   uuid NOT NULL CONSTRAINT security_group_member_nic REFERENCES nic ON DELETE CASCADE
               DEFERRABLE INITIALLY DEFERRED,
    group_uuid uuid NOT NULL,
    l3_uuid    uuid NOT NULL,
    place      bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
    PRIMARY KEY (nic_uuid, group_uuid),
    CONSTRAINT security_group_member_attached FOREIGN KEY (group_uuid, l3_uuid) REFERENCES security_group_l3
);
CREATE INDEX security_group_member_group ON security_group_member (group_uuid, l3_uuid);
CREATE INDEX security_group_member_l3 ON security_group_member (l3_uuid);

-- Only of NICs that have others than the usual ones.
CREATE TABLE nic_security_policy (
    nic_uuid uuid PRIMARY KEY REFERENCES nic ON DELETE CASCADE,
    ingress  text NOT NULL DEFAULT 'drop' CHECK (ingress IN ('allow', 'drop')),
    egress   text NOT NULL DEFAULT 'allow' CHECK (egress IN ('allow', 'drop'))
);
