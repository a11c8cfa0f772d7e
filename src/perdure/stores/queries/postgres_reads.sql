-- What is read on PostgreSQL for the command line and pages. No locks are taken. `lower` folds the letters of ASCII
-- only where the collation is "C".

-- name: history
-- A whole journal.
select
    e.execution_id, e.seq, e.generation, e.key, e.kind, e.status, e.attempt, e.fence, e.parent_key, e.input, e.output,
    e.error, e.encoding, e.checksum, e.build, e.started_at, e.completed_at
from step_executions e
where e.execution_id = $1
order by e.seq;

-- name: get_executions
-- These executions.
select w.* from workflow_executions w where w.id = any($1::text[]);

-- name: get_requests
-- These requests, or those of these executions, or all, oldest first.
select r.*
from approval_requests r
where (r.id = any($1::text[]) or r.execution_id = any($2::text[]) or cardinality($1) + cardinality($2) = 0)
    and ($3::text is null or r.status = $3)
order by r.created_at, r.id
limit $4;

-- name: descendants
-- All below an execution that have not ended, level by level.
with recursive tree as (
    select w.id, 1 as depth from workflow_executions w where w.parent_id = $1
    union all
    select w.id, t.depth + 1 from tree t join workflow_executions w on w.parent_id = t.id
)
select w.*
from tree t join workflow_executions w on w.id = t.id
where w.status not in ('completed', 'failed', 'cancelled', 'rolled_back', 'rollback_failed')
order by t.depth, w.created_at, w.id;

-- name: get_workers
-- Those that are alive, and those that are not and still own executions.
select k.*
from workers k
where k.state = 'live' or exists (select from workflow_executions w where w.owner = k.id)
order by k.id;

-- name: tail
-- Entries of these kinds behind a place.
select
    e.execution_id, e.seq, e.generation, e.key, e.kind, e.status, e.attempt, e.fence, e.parent_key, e.input, e.output,
    e.error, e.encoding, e.checksum, e.build, e.started_at, e.completed_at
from step_executions e
where e.execution_id = $1 and e.seq > $2 and e.kind = any($3::text[])
order by e.seq
limit $4;

-- name: latest
-- The last entry of a key.
select
    e.execution_id, e.seq, e.generation, e.key, e.kind, e.status, e.attempt, e.fence, e.parent_key, e.input, e.output,
    e.error, e.encoding, e.checksum, e.build, e.started_at, e.completed_at
from step_executions e
where e.execution_id = $1 and e.key = $2
order by e.seq desc
limit 1;

-- name: tallies
-- All executions by workflow, queue and status, and since when the oldest of each that has not ended.
select c.workflow, c.queue, c.status, c.number, c.oldest
from (
    select t.workflow, t.queue, t.status, sum(t.number)::bigint as number, null::timestamptz as oldest
    from execution_tallies t
    group by t.workflow, t.queue, t.status
    having sum(t.number) > 0
    union all
    select w.workflow, w.queue, w.status, count(*), min(w.created_at)
    from workflow_executions w
    where (w.status || '') in ('pending', 'waiting', 'paused', 'rolling_back', 'blocked')
    group by w.workflow, w.queue, w.status
    union all
    select w.workflow, w.queue, w.status, count(*), min(w.created_at)
    from workflow_executions w
    where w.owner is not null and w.status = 'running'
    group by w.workflow, w.queue, w.status
) c
order by c.workflow, c.queue, c.status collate "C";

-- name: schedules
-- All of them.
select s.* from schedules s order by s.name;
