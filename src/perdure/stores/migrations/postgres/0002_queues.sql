-- Queues with limits, schedules, restarts, and builds that refuse an execution. All columns have defaults, so that a
-- library that knows the first schema alone goes on writing.
-- oldest writer: 1

alter table workflow_executions add column started_at timestamptz;
alter table workflow_executions add column base_seq bigint not null default 0;
alter table workflow_executions add column refused text;

-- What a claim with a rate counts; what may have killed its workers; what is old enough to be removed. Who runs in a
-- queue is found by its owner: an index of its own would draw the search for what the dead left, away from the owners.
create index workflow_executions_started on workflow_executions (queue, started_at) where started_at is not null;
create index workflow_executions_crashed on workflow_executions (queue)
    where crashes > 0 and status in ('pending', 'waiting', 'running');
create index workflow_executions_ended on workflow_executions (ended_at) where ended_at is not null;

-- Attributes as JSON whose parts can be taken out one by one, as text. The server refuses to read some escapes that
-- Python's strings need (\u0000, half a surrogate pair); so each \u becomes a plain backslash and a u, and each
-- backslash two of them. Two texts are equal after it if, and only if, they were before.
create function perdure_plain(attributes text) returns json language sql immutable strict parallel safe as $$
    select replace(
        replace(
            replace(attributes, repeat(chr(92), 2), chr(31)),
            chr(92) || 'u',
            repeat(chr(92), 2) || 'u'
        ),
        chr(31),
        repeat(chr(92), 4)
    )::json
$$;

-- A row for each queue with limits, made on demand. A claim of such a queue holds its lock.
create table queues (
    name text collate "C" primary key
);

-- When which workflow is started by the clock. `next_at` moves on only by a comparison with what was known.
create table schedules (
    name text collate "C" primary key,
    workflow text collate "C" not null,
    version integer not null,
    cron text not null,
    timezone text not null,
    overlap text not null check (overlap in ('skip', 'queue', 'allow')),
    backfill boolean not null,
    input text not null,
    queue text collate "C",
    paused boolean not null,
    next_at timestamptz,
    last_at timestamptz,
    last_id text collate "C",
    created_at timestamptz not null
);
