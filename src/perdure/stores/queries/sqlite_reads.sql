-- What is read on SQLite for the command line and pages. `lower` there folds the letters of ASCII only, and
-- `perdure_has` is a function of ours: whether all these attributes are there.

-- name: tail
-- Entries of these kinds behind a place.
select
    execution_id, seq, generation, key, kind, status, attempt, fence, parent_key, input, output, error, encoding,
    checksum, build, started_at, completed_at
from step_executions
where execution_id = :id and seq > :after and kind in (select value from json_each(:kinds))
order by seq
limit :limit;

-- name: latest
-- The last entry of a key.
select
    execution_id, seq, generation, key, kind, status, attempt, fence, parent_key, input, output, error, encoding,
    checksum, build, started_at, completed_at
from step_executions
where execution_id = :id and key = :key
order by seq desc
limit 1;

-- name: made_at
-- When an execution was made, as it is written.
select created_at from workflow_executions where id = ?;

-- name: tallies
-- All executions by workflow, queue and status, and since when the oldest of each that has not ended.
select workflow, queue, status, sum(number), null
from execution_tallies
group by workflow, queue, status
having sum(number) > 0
union all
select workflow, queue, status, count(*), min(created_at)
from workflow_executions w
where (w.status || '') in ('pending', 'waiting', 'paused', 'rolling_back', 'blocked')
    and (w.status || '') not in ('running', 'completed')
group by workflow, queue, status
union all
select workflow, queue, status, count(*), min(created_at)
from workflow_executions w
where w.owner is not null and w.status = 'running'
group by workflow, queue, status
order by 1, 2, 3;

-- name: all_requests
-- Requests, oldest first.
select * from approval_requests where :status is null or status = :status order by created_at, id limit :limit;

-- name: some_requests
-- These requests, and those of these executions, oldest first.
select * from approval_requests
where (id in (select value from json_each(:ids)) or execution_id in (select value from json_each(:execution_ids)))
  and (:status is null or status = :status)
order by created_at, id
limit :limit;

-- name: tree
-- All descendants that have not ended.
with recursive descendants (id) as (
    select id from workflow_executions where parent_id = ?
    union
    select child.id from workflow_executions as child join descendants on child.parent_id = descendants.id
)
select * from workflow_executions
where id in (select id from descendants)
  and status not in ('completed', 'failed', 'cancelled', 'rolled_back', 'rollback_failed');

-- name: schedules
-- All of them.
select * from schedules order by name;
