-- What is read on MariaDB and MySQL for the command line and pages. No locks are taken. What these servers cannot compare
-- as the contract has it (attributes as text, letters of ASCII alone folded) is compared in stores/mysql_reads.py; what
-- is here lets more through, never less.

-- name: history
-- A whole journal.
select
    e.execution_id, e.seq, e.generation, e.`key`, e.kind, e.status, e.attempt, e.fence, e.parent_key, e.input, e.output,
    e.error, e.encoding, e.checksum, e.build, e.started_at, e.completed_at
from step_executions e
where e.execution_id = %(id)s
order by e.seq;

-- name: get_executions
-- These executions.
select w.* from workflow_executions w where w.id in %(ids)s;

-- name: get_requests
-- These requests, or those of these executions, or all, oldest first.
select r.*
from approval_requests r
where (%(all)s or r.id in %(ids)s or r.execution_id in %(execution_ids)s)
    and (%(status)s is null or r.status = %(status)s)
order by r.created_at, r.id
limit %(limit)s;

-- name: children
-- All children of these, open or not.
select w.* from workflow_executions w where w.parent_id in %(ids)s order by w.created_at, w.id;

-- name: get_workers
-- Those that are alive, and those that are not and still own executions. One look into the index for each.
select k.*
from workers k
where k.state = 'live'
    or (select w.owner from workflow_executions w force index (workflow_executions_owned) where w.owner = k.id limit 1) > 0
order by k.id;

-- name: tail
-- Entries of these kinds behind a place.
select
    e.execution_id, e.seq, e.generation, e.`key`, e.kind, e.status, e.attempt, e.fence, e.parent_key, e.input, e.output,
    e.error, e.encoding, e.checksum, e.build, e.started_at, e.completed_at
from step_executions e
where e.execution_id = %(id)s and e.seq > %(after)s and e.kind in %(kinds)s
order by e.seq
limit %(limit)s;

-- name: latest
-- The last entry of a key.
select
    e.execution_id, e.seq, e.generation, e.`key`, e.kind, e.status, e.attempt, e.fence, e.parent_key, e.input, e.output,
    e.error, e.encoding, e.checksum, e.build, e.started_at, e.completed_at
from step_executions e
where e.execution_id = %(id)s and e.`key` = %(key)s
order by e.seq desc
limit 1;

-- name: kept_tallies
-- All executions by workflow, queue and status, and since when the oldest of each that has not ended. A row without a
-- status: there are workers who count nothing.
select c.workflow, c.queue, c.status, c.number, c.oldest
from (
    select t.workflow, t.queue, t.status, sum(t.number) as number, null as oldest
    from execution_tallies t
    where t.status in ('completed', 'failed', 'cancelled', 'rolled_back', 'rollback_failed')
    group by t.workflow, t.queue, t.status
    having sum(t.number) > 0
    union all
    select w.workflow, w.queue, w.status, count(*), min(w.created_at)
    from workflow_executions w force index (workflow_executions_of_status)
    where w.status in ('pending', 'running', 'waiting', 'paused', 'rolling_back', 'blocked')
    group by w.workflow, w.queue, w.status
    union all
    select '', '', '', count(*), null from workers k where not k.counts having count(*) > 0
) c
order by c.workflow, c.queue, c.status;

-- name: tallies
-- The same by a look at all.
select w.workflow, w.queue, w.status, count(*) as number, min(w.created_at) as oldest
from workflow_executions w
group by w.workflow, w.queue, w.status
order by w.workflow, w.queue, w.status;

-- name: schedules
-- All of them.
select s.* from schedules s order by s.name;
