-- The first schema. The model is told in perdure/store.py, each column in docs/schema.md.
-- Ids compare byte for byte (collate "C"). Payloads are text that holds ASCII JSON, unless `encoding` says otherwise.
-- Rows that change in place leave room in their page, so that most updates touch no index.
-- oldest writer: 1

-- Microseconds since 1970 as a timestamp. In two parts, as each is exact where their sum would not be.
create function perdure_time(micros bigint) returns timestamptz language sql stable parallel safe as $$
    select timestamptz 'epoch'
        + (micros / 1000000) * interval '1 second' + (micros % 1000000) * interval '1 microsecond'
$$;

create table schema_versions (
    version integer primary key,
    applied_at timestamptz not null,
    oldest_writer integer not null
);

-- Workflows as workers registered them.
create table workflow_definitions (
    name text collate "C" not null,
    version integer not null,
    build text not null,
    registered_at timestamptz not null,
    primary key (name, version)
);

-- One run of a workflow each. `fence` is raised by each claim, `nudges` by each delivery.
create table workflow_executions (
    id text collate "C" primary key,
    workflow text collate "C" not null,
    version integer not null,
    status text not null check (status in (
        'pending', 'running', 'waiting', 'paused', 'completed', 'failed', 'cancelled',
        'rolling_back', 'rolled_back', 'rollback_failed', 'blocked'
    )),
    queue text collate "C" not null,
    priority integer not null,
    owner bigint,
    fence bigint not null,
    nudges bigint not null,
    generation integer not null,
    input text not null,
    output text,
    error text,
    encoding text not null,
    checksum bigint not null,
    wish text,
    wish_by text,
    wish_reason text,
    reason text,
    wake_at timestamptz,
    parent_id text collate "C",
    parent_key text,
    started_by text,
    attributes text,
    build text not null,
    crashes integer not null,
    crash_seq bigint not null,
    token text not null,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    ended_at timestamptz
) with (fillfactor = 80);

-- What a claim takes: ready now; due; left by a dead worker.
create index workflow_executions_ready on workflow_executions (queue, priority desc, created_at, id)
    where status = 'pending' and wake_at is null;
create index workflow_executions_due on workflow_executions (wake_at)
    where status in ('pending', 'waiting') and wake_at is not null;
create index workflow_executions_owned on workflow_executions (owner) where owner is not null;
create index workflow_executions_children on workflow_executions (parent_id, created_at, id)
    where parent_id is not null;
create index workflow_executions_by_age on workflow_executions (created_at, id);

-- The journal: every durable call of an execution, in order. Rows are never changed or deleted.
create table step_executions (
    execution_id text collate "C" not null,
    seq bigint not null,
    generation integer not null,
    key text collate "C" not null,
    kind text not null,
    status text not null check (status in ('completed', 'failed', 'set', 'open')),
    attempt integer not null,
    fence bigint not null,
    parent_key text collate "C",
    input text,
    output text,
    error text,
    encoding text not null,
    checksum bigint not null,
    build text not null,
    started_at timestamptz not null,
    completed_at timestamptz not null,
    primary key (execution_id, seq)
);

-- The state at checkpoints, waits and failures: in full, or as the difference to the one before.
create table state_snapshots (
    execution_id text collate "C" not null,
    seq bigint not null,
    branch text collate "C" not null,
    generation integer not null,
    name text,
    cause text not null check (cause in ('checkpoint', 'wait', 'failure')),
    kind text not null check (kind in ('full', 'difference')),
    base_digest text,
    digest text not null,
    state text not null,
    encoding text not null,
    checksum bigint not null,
    created_at timestamptz not null,
    primary key (execution_id, seq, branch)
);

-- What an execution asks of people: an answer (`input`) or a decision (`approval`).
create table approval_requests (
    id text collate "C" primary key,
    execution_id text collate "C" not null,
    key text collate "C" not null,
    generation integer not null,
    kind text not null,
    message text not null,
    details text,
    schema text,
    default_answer text,
    assignee text,
    status text not null check (status in ('open', 'decided', 'expired', 'withdrawn')),
    answer text,
    answered_by text,
    answered_via text,
    checksum bigint not null,
    expires_at timestamptz,
    created_at timestamptz not null,
    decided_at timestamptz
) with (fillfactor = 90);

create index approval_requests_of_execution on approval_requests (execution_id, created_at, id);
create index approval_requests_open on approval_requests (created_at, id) where status = 'open';

-- The single voices behind a decision.
create table approval_decisions (
    request_id text collate "C" not null,
    ordinal integer not null,
    action_id text,
    decision text not null check (decision in ('approved', 'rejected', 'edited')),
    arguments text,
    comment text,
    digest text,
    decided_by text,
    decided_via text,
    decided_at timestamptz not null,
    primary key (request_id, ordinal)
);

-- What undoes the completed entries of an execution, one row for each entry that a rollback undoes.
create table rollback_actions (
    execution_id text collate "C" not null,
    generation integer not null,
    seq bigint not null,
    key text collate "C" not null,
    undo text not null,
    status text not null check (status in ('planned', 'running', 'completed', 'failed', 'unknown', 'skipped')),
    attempt integer not null,
    output text,
    error text,
    encoding text not null,
    checksum bigint not null,
    resolved_by text,
    started_at timestamptz,
    completed_at timestamptz,
    primary key (execution_id, generation, seq)
);

-- Named data sent to executions. `taken_seq` is the entry that received it.
create table messages (
    id text collate "C" primary key,
    execution_id text collate "C" not null,
    name text collate "C" not null,
    value text not null,
    checksum bigint not null,
    ordinal bigint not null,
    taken_seq bigint,
    sent_by text,
    created_at timestamptz not null
) with (fillfactor = 90);

create unique index messages_of_execution on messages (execution_id, ordinal);

-- Processes that run executions. A row is locked by each commit of its worker and renewed by each heartbeat; its
-- `epoch` is checked by every commit and raised when the worker is declared dead.
create table workers (
    id bigint generated always as identity primary key,
    epoch bigint not null,
    state text not null check (state in ('live', 'dead', 'gone')),
    host text not null,
    pid bigint not null,
    process text not null,
    build text not null,
    workflows text not null,
    queues text not null,
    started_at timestamptz not null,
    lease_until timestamptz not null
) with (fillfactor = 20);

-- Large values, by content, shared within an execution.
create table payload_chunks (
    execution_id text collate "C" not null,
    digest text collate "C" not null,
    data text not null,
    encoding text not null,
    primary key (execution_id, digest)
);
