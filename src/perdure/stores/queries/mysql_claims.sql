-- Claims on MariaDB and MySQL. The rules are told in mysql.sql. First a look, which locks nothing: most find nothing to
-- take. Then, in one transaction, the worker is locked and what may be taken, and what was chosen of it is taken.
-- What is ready is locked in the order of an index, so that two claims do not lock, or pass over, what they do not take.

-- name: dead_workers
-- Who is known and not alive. None of them lives again.
select id from workers where state <> 'live';

-- name: look_ready
-- What of a queue is ready.
select w.id, w.priority, w.created_at, w.attributes, w.started_at
from workflow_executions w force index (workflow_executions_ready)
where w.status = 'pending' and w.queue = %(queue)s and w.wake_at is null and w.crashes < 2
    and (w.workflow, w.version) in %(workflows)s
    and (w.refused is null or %(build)s = '""' or not if(json_valid(w.refused), json_contains(w.refused, %(build)s), false))
order by w.urgency, w.created_at, w.id
limit %(limit)s;

-- name: take_ready
-- The same, locked. What others are about to take is passed over.
select w.id, w.priority, w.created_at, w.attributes, w.started_at
from workflow_executions w force index (workflow_executions_ready)
where w.status = 'pending' and w.queue = %(queue)s and w.wake_at is null and w.crashes < 2
    and (w.workflow, w.version) in %(workflows)s
    and (w.refused is null or %(build)s = '""' or not if(json_valid(w.refused), json_contains(w.refused, %(build)s), false))
order by w.urgency, w.created_at, w.id
limit %(limit)s
for update skip locked;

-- name: look_due
-- What is due of these queues: the 1000 that are due longest.
select w.id, w.priority, w.created_at, w.attributes, w.started_at
from workflow_executions w force index (workflow_executions_due)
where w.status in ('pending', 'waiting', 'rolling_back') and w.wake_at <= utc_timestamp(6) and w.crashes < 2
    and w.queue in %(queues)s
    and (w.workflow, w.version) in %(workflows)s
    and (w.refused is null or %(build)s = '""' or not if(json_valid(w.refused), json_contains(w.refused, %(build)s), false))
order by w.wake_at
limit 1000;

-- name: look_orphaned
-- What the dead left of these queues. Beginning with the dead: where most executions have no owner, a server takes each
-- owner for one who has very many, and would rather read the whole table.
select w.id, w.priority, w.created_at, w.attributes, w.started_at
from workers k
straight_join workflow_executions w force index (workflow_executions_owned) on w.owner = k.id
where k.state <> 'live'
    and w.status in ('running', 'rolling_back') and w.crashes = 0
    and w.queue in %(queues)s
    and (w.workflow, w.version) in %(workflows)s
    and (w.refused is null or %(build)s = '""' or not if(json_valid(w.refused), json_contains(w.refused, %(build)s), false))
order by w.urgency, w.created_at, w.id
limit 1000;

-- name: look_suspects
-- What may have killed its workers: running with a crash, or two of them.
select w.id, w.priority, w.created_at, w.attributes, w.started_at
from workflow_executions w force index (workflow_executions_crashed)
where w.crashes > 0 and w.status in ('pending', 'waiting', 'running', 'rolling_back')
    and case w.status
        when 'running' then w.owner in (select k.id from workers k where k.state <> 'live')
        when 'rolling_back' then (w.crashes >= 2 and w.wake_at <= utc_timestamp(6))
            or coalesce(w.owner in (select k.id from workers k where k.state <> 'live'), false)
        when 'waiting' then w.crashes >= 2 and w.wake_at <= utc_timestamp(6)
        else w.crashes >= 2 and (w.wake_at is null or w.wake_at <= utc_timestamp(6))
    end
    and w.queue in %(queues)s
    and (w.workflow, w.version) in %(workflows)s
    and (w.refused is null or %(build)s = '""' or not if(json_valid(w.refused), json_contains(w.refused, %(build)s), false))
order by w.urgency, w.created_at, w.id
limit 1000;

-- name: take_these
-- Of those chosen by a look, what still may be taken, locked.
select w.id, w.priority, w.created_at, w.owner
from workflow_executions w force index (primary)
where w.id in %(ids)s
    and case w.status
        when 'running' then w.owner in %(dead)s
        when 'rolling_back' then w.wake_at <= utc_timestamp(6) or coalesce(w.owner in %(dead)s, false)
        when 'waiting' then w.wake_at <= utc_timestamp(6)
        when 'pending' then w.wake_at is null or w.wake_at <= utc_timestamp(6)
        else false
    end
order by w.id
for update skip locked;

-- name: count_crashes
-- Their owners died: 1 if the journal grew since the last time, else one more. The seq last, as it is asked before.
update workflow_executions w
set w.crashes = if(
        coalesce((select max(e.seq) from step_executions e where e.execution_id = w.id), 0) > w.crash_seq,
        1,
        w.crashes + 1
    ),
    w.crash_seq = coalesce((select max(f.seq) from step_executions f where f.execution_id = w.id), 0)
where w.id in %(ids)s;

-- name: claim
-- A new owner, a new fence.
update workflow_executions
set status = if(status = 'rolling_back', status, 'running'),
    owner = %(worker)s,
    fence = fence + 1,
    wake_at = null,
    started_at = coalesce(started_at, utc_timestamp(6)),
    updated_at = utc_timestamp(6)
where id in %(ids)s;

-- name: claimed
-- The rows after the claim.
select w.* from workflow_executions w where w.id in %(ids)s order by w.urgency, w.created_at, w.id;

-- name: make_queues
-- A row for each limited queue, before its first claim.
insert into queues (name) values %(rows)s on duplicate key update name = values(name);

-- name: lock_queues
-- From here on no other claim of these queues comes between. Locked before the worker: nobody does it the other way.
select q.name from queues q where q.name in %(queues)s order by q.name for update;

-- name: running_places
-- What of a queue is in somebody's memory.
select w.id, w.attributes, w.started_at
from workflow_executions w
where w.owner is not null and w.status = 'running' and w.queue = %(queue)s;

-- name: recent_places
-- What of a queue was first claimed within so many microseconds, at most so many.
select w.id, w.attributes, w.started_at
from workflow_executions w
where w.queue = %(queue)s and w.started_at > utc_timestamp(6) - interval %(window)s microsecond
limit %(most)s;
