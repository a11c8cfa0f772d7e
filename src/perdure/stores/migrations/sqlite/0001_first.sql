-- The first schema. Times are text, "2026-11-21T20:33:00.123456Z", which sorts as time does. Payloads are text
-- holding ASCII JSON, or base64 where `encoding` names a compression or a cipher. Ids compare byte for byte.
-- oldest writer: 1

create table schema_versions (
    version integer primary key,
    applied_at text not null,
    oldest_writer integer not null
);

-- Workflows as workers registered them.
create table workflow_definitions (
    name text not null,
    version integer not null,
    build text not null,
    registered_at text not null,
    primary key (name, version)
) without rowid;

-- Checks and triggers compare one by one: `in` with three values and more makes a table in memory at each use, which is
-- a third of what an entry costs.

-- One run of a workflow each. `fence` is raised by each claim, `nudges` by each delivery.
create table workflow_executions (
    id text not null primary key,
    workflow text not null,
    version integer not null,
    status text not null check (
        status = 'pending' or status = 'running' or status = 'waiting' or status = 'paused'
        or status = 'completed' or status = 'failed' or status = 'cancelled' or status = 'rolling_back'
        or status = 'rolled_back' or status = 'rollback_failed' or status = 'blocked'
    ),
    queue text not null,
    priority integer not null,
    owner integer,
    fence integer not null,
    nudges integer not null,
    generation integer not null,
    input text not null,
    output text,
    error text,
    encoding text not null,
    checksum integer not null,
    wish text,
    wish_by text,
    wish_reason text,
    reason text,
    wake_at text,
    parent_id text,
    parent_key text,
    started_by text,
    attributes text,
    build text not null,
    crashes integer not null,
    crash_seq integer not null,
    token text not null,
    created_at text not null,
    updated_at text not null,
    ended_at text
);

create index workflow_executions_ready on workflow_executions (priority desc, created_at, id)
    where status = 'pending' and wake_at is null;
create index workflow_executions_wake on workflow_executions (wake_at)
    where status in ('pending', 'waiting') and wake_at is not null;
create index workflow_executions_owner on workflow_executions (owner) where owner is not null;
create index workflow_executions_parent on workflow_executions (parent_id) where parent_id is not null;
create index workflow_executions_created on workflow_executions (created_at, id);

-- The journal: every durable call of an execution, in order. Rows are never changed or deleted.
create table step_executions (
    execution_id text not null,
    seq integer not null,
    generation integer not null,
    key text not null,
    kind text not null,
    status text not null check (
        status = 'completed' or status = 'failed' or status = 'set' or status = 'open'
    ),
    attempt integer not null,
    fence integer not null,
    parent_key text,
    input text,
    output text,
    error text,
    encoding text not null,
    checksum integer not null,
    build text not null,
    started_at text not null,
    completed_at text not null,
    primary key (execution_id, seq)
);

create index step_executions_inner on step_executions (execution_id, parent_key) where parent_key is not null;

-- The state at checkpoints, waits and failures: in full, or as the difference to the one before.
create table state_snapshots (
    execution_id text not null,
    seq integer not null,
    branch text not null,
    generation integer not null,
    name text,
    cause text not null check (cause = 'checkpoint' or cause = 'wait' or cause = 'failure'),
    kind text not null check (kind in ('full', 'difference')),
    base_digest text,
    digest text not null,
    state text not null,
    encoding text not null,
    checksum integer not null,
    created_at text not null,
    primary key (execution_id, seq, branch)
);

-- What an execution asks of people: an answer (`input`) or a decision (`approval`).
create table approval_requests (
    id text not null primary key,
    execution_id text not null,
    key text not null,
    generation integer not null,
    kind text not null,
    message text not null,
    details text,
    schema text,
    default_answer text,
    assignee text,
    status text not null check (
        status = 'open' or status = 'decided' or status = 'expired' or status = 'withdrawn'
    ),
    answer text,
    answered_by text,
    answered_via text,
    checksum integer not null,
    expires_at text,
    created_at text not null,
    decided_at text
);

create index approval_requests_execution on approval_requests (execution_id);
create index approval_requests_status on approval_requests (status, created_at, id);

-- The single voices behind a decision.
create table approval_decisions (
    request_id text not null,
    ordinal integer not null,
    action_id text,
    decision text not null check (decision = 'approved' or decision = 'rejected' or decision = 'edited'),
    arguments text,
    comment text,
    digest text,
    decided_by text,
    decided_via text,
    decided_at text not null,
    primary key (request_id, ordinal)
) without rowid;

-- What undoes the completed entries of an execution, one row for each entry that a rollback undoes.
create table rollback_actions (
    execution_id text not null,
    generation integer not null,
    seq integer not null,
    key text not null,
    undo text not null,
    status text not null check (
        status = 'planned' or status = 'running' or status = 'completed' or status = 'failed'
        or status = 'unknown' or status = 'skipped'
    ),
    attempt integer not null,
    output text,
    error text,
    encoding text not null,
    checksum integer not null,
    resolved_by text,
    started_at text,
    completed_at text,
    primary key (execution_id, generation, seq)
);

-- Named data sent to executions. `taken_seq` is the entry that received it.
create table messages (
    id text not null primary key,
    execution_id text not null,
    name text not null,
    value text not null,
    checksum integer not null,
    ordinal integer not null,
    taken_seq integer,
    sent_by text,
    created_at text not null
);

create unique index messages_execution on messages (execution_id, ordinal);

-- Processes that run executions. `epoch` is checked by every commit and raised when the worker is declared dead.
create table workers (
    id integer primary key autoincrement,
    epoch integer not null,
    state text not null check (state = 'live' or state = 'dead' or state = 'gone'),
    host text not null,
    pid integer not null,
    process text not null,
    build text not null,
    workflows text not null,
    queues text not null,
    started_at text not null,
    lease_until text not null
);

create index workers_state on workers (state);

-- Large values, by content, shared within an execution.
create table payload_chunks (
    execution_id text not null,
    digest text not null,
    data text not null,
    encoding text not null,
    primary key (execution_id, digest)
);
