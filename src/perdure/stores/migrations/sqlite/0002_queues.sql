-- Queues with limits, schedules, restarts, and builds that refuse an execution. All columns have defaults, so that a
-- library that knows the first schema alone goes on writing.
-- oldest writer: 1

alter table workflow_executions add column started_at text;
alter table workflow_executions add column base_seq integer not null default 0;
alter table workflow_executions add column refused text;

-- What is ready, queue by queue: what stands before a full queue is not in the way of another one.
create index workflow_executions_queued on workflow_executions (queue, priority desc, created_at, id)
    where status = 'pending' and wake_at is null;
drop index workflow_executions_ready;

-- What a claim with a rate counts; what may have killed its workers; what is old enough to be removed.
create index workflow_executions_started on workflow_executions (queue, started_at) where started_at is not null;
create index workflow_executions_crashed on workflow_executions (crashes)
    where crashes > 0 and status in ('pending', 'waiting', 'running');
create index workflow_executions_ended on workflow_executions (ended_at) where ended_at is not null;

-- When which workflow is started by the clock. `next_at` moves on only by a comparison with what was known.
create table schedules (
    name text not null primary key,
    workflow text not null,
    version integer not null,
    cron text not null,
    timezone text not null,
    overlap text not null check (overlap = 'skip' or overlap = 'queue' or overlap = 'allow'),
    backfill integer not null,
    input text not null,
    queue text,
    paused integer not null,
    next_at text,
    last_at text,
    last_id text,
    created_at text not null
) without rowid;
