-- Changes of attached networks, and storms of drift.

-- What a change of VLAN or MTU makes of a network's row, and what that was before: `{"former": ..., "wanted": ...}`.
-- Kept with the operation, so that whoever moves it on can go back, also after a crash.
ALTER TABLE operation ADD COLUMN change jsonb;
CREATE INDEX operation_running_l2 ON operation (l2_uuid) WHERE state = 'running';

-- When a host last told of a storm of drift; the storm itself is an entry of `health`.
ALTER TABLE host ADD COLUMN storm_at timestamptz;
CREATE INDEX host_storm ON host (storm_at) WHERE storm_at IS NOT NULL;
