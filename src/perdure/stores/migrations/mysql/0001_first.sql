-- The first schema. The model is told in perdure/store.py, each column in docs/schema.md.
-- The collation compares ids byte for byte and keeps spaces at their end; `utf8mb4_nopad_bin` is MariaDB's name of it,
-- which stores/mysql_schema.py replaces by MySQL's. Payloads are text that holds ASCII JSON, unless `encoding` says
-- otherwise. The comment `perdure` tells our tables from others of their names. DDL commits by itself: each statement
-- must do no harm when it is said again.
-- There are no partial indexes here: what stands first in an index is the condition.
-- oldest writer: 1

create table schema_versions (
    version int primary key,
    applied_at datetime(6) not null,
    oldest_writer int not null
) engine = innodb default charset = utf8mb4 collate = utf8mb4_nopad_bin comment = 'perdure';

-- Workflows as workers registered them.
create table workflow_definitions (
    name varchar(255) not null,
    version int not null,
    build varchar(255) not null,
    registered_at datetime(6) not null,
    primary key (name, version)
) engine = innodb default charset = utf8mb4 collate = utf8mb4_nopad_bin comment = 'perdure';

-- One run of a workflow each. `fence` is raised by each claim, `nudges` by each delivery. `urgency`: an index that goes
-- down is not to be had on all servers, and a claim that sorts would lock all that it sorts.
create table workflow_executions (
    id varchar(255) not null primary key,
    workflow varchar(255) not null,
    version int not null,
    status varchar(20) not null check (status in (
        'pending', 'running', 'waiting', 'paused', 'completed', 'failed', 'cancelled',
        'rolling_back', 'rolled_back', 'rollback_failed', 'blocked'
    )),
    queue varchar(255) not null,
    priority int not null,
    owner bigint,
    fence bigint not null,
    nudges bigint not null,
    generation int not null,
    input longtext not null,
    output longtext,
    error longtext,
    encoding varchar(255) not null,
    checksum bigint not null,
    wish varchar(255),
    wish_by text,
    wish_reason longtext,
    reason longtext,
    wake_at datetime(6),
    parent_id varchar(255),
    parent_key text,
    started_by text,
    attributes longtext,
    build varchar(255) not null,
    crashes int not null,
    crash_seq bigint not null,
    token varchar(255) not null,
    created_at datetime(6) not null,
    updated_at datetime(6) not null,
    ended_at datetime(6),
    started_at datetime(6),
    base_seq bigint not null default 0,
    refused longtext,
    urgency bigint generated always as (-priority) virtual,
    -- What a claim takes: ready now; due. What the dead left is found by its owner.
    key workflow_executions_ready (status, queue, wake_at, urgency, created_at, id),
    key workflow_executions_due (status, wake_at),
    key workflow_executions_owned (owner, status),
    key workflow_executions_children (parent_id, created_at),
    key workflow_executions_by_age (created_at, id),
    -- What a claim with a rate counts; what may have killed its workers; what is old enough to be removed.
    key workflow_executions_started (queue, started_at),
    key workflow_executions_crashed (crashes, status),
    key workflow_executions_ended (ended_at)
) engine = innodb default charset = utf8mb4 collate = utf8mb4_nopad_bin comment = 'perdure';

-- The journal: every durable call of an execution, in order. Rows are never changed or deleted.
create table step_executions (
    execution_id varchar(255) not null,
    seq bigint not null,
    generation int not null,
    `key` text not null,
    kind varchar(255) not null,
    status varchar(20) not null check (status in ('completed', 'failed', 'set', 'open')),
    attempt int not null,
    fence bigint not null,
    parent_key text,
    input longtext,
    output longtext,
    error longtext,
    encoding varchar(255) not null,
    checksum bigint not null,
    build varchar(255) not null,
    started_at datetime(6) not null,
    completed_at datetime(6) not null,
    primary key (execution_id, seq)
) engine = innodb default charset = utf8mb4 collate = utf8mb4_nopad_bin comment = 'perdure';

-- The state at checkpoints, waits and failures: in full, or as the difference to the one before.
create table state_snapshots (
    execution_id varchar(255) not null,
    seq bigint not null,
    branch varchar(255) not null,
    generation int not null,
    name text,
    cause varchar(20) not null check (cause in ('checkpoint', 'wait', 'failure')),
    kind varchar(20) not null check (kind in ('full', 'difference')),
    base_digest varchar(255),
    digest varchar(255) not null,
    state longtext not null,
    encoding varchar(255) not null,
    checksum bigint not null,
    created_at datetime(6) not null,
    primary key (execution_id, seq, branch)
) engine = innodb default charset = utf8mb4 collate = utf8mb4_nopad_bin comment = 'perdure';

-- What an execution asks of people: an answer (`input`) or a decision (`approval`). Its id is made of the execution's
-- and the call's key; 768 characters are the longest that an index takes.
create table approval_requests (
    id varchar(768) not null primary key,
    execution_id varchar(255) not null,
    `key` text not null,
    generation int not null,
    kind varchar(255) not null,
    message longtext not null,
    details longtext,
    `schema` longtext,
    default_answer longtext,
    assignee text,
    status varchar(20) not null check (status in ('open', 'decided', 'expired', 'withdrawn')),
    answer longtext,
    answered_by text,
    answered_via text,
    checksum bigint not null,
    expires_at datetime(6),
    created_at datetime(6) not null,
    decided_at datetime(6),
    key approval_requests_of_execution (execution_id, created_at),
    key approval_requests_open (status, created_at)
) engine = innodb default charset = utf8mb4 collate = utf8mb4_nopad_bin comment = 'perdure';

-- The single voices behind a decision.
create table approval_decisions (
    request_id varchar(760) not null,
    ordinal int not null,
    action_id text,
    decision varchar(20) not null check (decision in ('approved', 'rejected', 'edited')),
    arguments longtext,
    comment longtext,
    digest varchar(255),
    decided_by text,
    decided_via text,
    decided_at datetime(6) not null,
    primary key (request_id, ordinal)
) engine = innodb default charset = utf8mb4 collate = utf8mb4_nopad_bin comment = 'perdure';

-- What undoes the completed entries of an execution, one row for each entry that a rollback undoes.
create table rollback_actions (
    execution_id varchar(255) not null,
    generation int not null,
    seq bigint not null,
    `key` text not null,
    `undo` text not null,
    status varchar(20) not null check (status in (
        'planned', 'running', 'completed', 'failed', 'unknown', 'skipped'
    )),
    attempt int not null,
    output longtext,
    error longtext,
    encoding varchar(255) not null,
    checksum bigint not null,
    resolved_by text,
    started_at datetime(6),
    completed_at datetime(6),
    primary key (execution_id, generation, seq)
) engine = innodb default charset = utf8mb4 collate = utf8mb4_nopad_bin comment = 'perdure';

-- Named data sent to executions. `taken_seq` is the entry that received it.
create table messages (
    id varchar(768) not null primary key,
    execution_id varchar(255) not null,
    name text not null,
    value longtext not null,
    checksum bigint not null,
    ordinal bigint not null,
    taken_seq bigint,
    sent_by text,
    created_at datetime(6) not null,
    unique key messages_of_execution (execution_id, ordinal)
) engine = innodb default charset = utf8mb4 collate = utf8mb4_nopad_bin comment = 'perdure';

-- Processes that run executions. A row is locked by each commit of its worker and renewed by each heartbeat; its
-- `epoch` is checked by every commit and raised when the worker is declared dead.
create table workers (
    id bigint not null auto_increment primary key,
    epoch bigint not null,
    state varchar(20) not null check (state in ('live', 'dead', 'gone')),
    host text not null,
    pid bigint not null,
    process text not null,
    build varchar(255) not null,
    workflows longtext not null,
    queues longtext not null,
    started_at datetime(6) not null,
    lease_until datetime(6) not null
) engine = innodb default charset = utf8mb4 collate = utf8mb4_nopad_bin comment = 'perdure';

-- Large values, by content, shared within an execution.
create table payload_chunks (
    execution_id varchar(255) not null,
    digest varchar(255) not null,
    data longtext not null,
    encoding varchar(255) not null,
    primary key (execution_id, digest)
) engine = innodb default charset = utf8mb4 collate = utf8mb4_nopad_bin comment = 'perdure';

-- A row for each queue with limits, made on demand. A claim of such a queue holds its lock.
create table queues (
    name varchar(255) not null primary key
) engine = innodb default charset = utf8mb4 collate = utf8mb4_nopad_bin comment = 'perdure';

-- When which workflow is started by the clock. `next_at` moves on only by a comparison with what was known.
create table schedules (
    name varchar(255) not null primary key,
    workflow varchar(255) not null,
    version int not null,
    cron text not null,
    timezone varchar(255) not null,
    overlap varchar(20) not null check (overlap in ('skip', 'queue', 'allow')),
    backfill boolean not null,
    input longtext not null,
    queue varchar(255),
    paused boolean not null,
    next_at datetime(6),
    last_at datetime(6),
    last_id varchar(255),
    created_at datetime(6) not null
) engine = innodb default charset = utf8mb4 collate = utf8mb4_nopad_bin comment = 'perdure';
