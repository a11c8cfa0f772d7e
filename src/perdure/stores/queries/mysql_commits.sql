-- Commits to MariaDB and MySQL, and how one is settled whose answer is missing. The rules are told in mysql.sql.
-- A commit is one packet, which cannot ask between two statements: it supposes that nothing is refused, and a statement
-- that would write NULL where none may stand ends it where something is. The same is then said in two packets, judged
-- in between (stores/mysql_commits.py).

-- name: lock_worker
-- The first of every commit. Waits for a commit of this worker that is under way, and for its death.
select epoch, state from workers where id = %(worker)s for update;

-- name: locking_fence
-- In the place of the first entry's fence: nothing, if the worker does not stand. Takes the lock itself.
(
    select %(fence)s from workers k
    where k.id = %(worker)s and k.epoch = %(epoch)s and k.state = 'live'
    for update
);

-- name: standing_fence
-- The same after the lock.
(select %(fence)s from workers k where k.id = %(worker)s and k.epoch = %(epoch)s and k.state = 'live');

-- name: insert_entries
-- What happened. A seq that is there already is an error.
insert into step_executions (
    execution_id, seq, generation, `key`, kind, status, attempt, fence, parent_key, input, output, error, encoding,
    checksum, build, started_at, completed_at
) values %(rows)s;

-- name: existing_executions
-- Which of these ids are taken.
select id from workflow_executions where id in %(ids)s;

-- name: insert_executions
-- New ones, unless their id is taken.
insert into workflow_executions (
    id, workflow, version, status, queue, priority, owner, fence, nudges, generation, input, output, error, encoding,
    checksum, wish, wish_by, wish_reason, reason, wake_at, parent_id, parent_key, started_by, attributes, build,
    crashes, crash_seq, token, created_at, updated_at, ended_at, started_at, base_seq, refused
) values %(rows)s
on duplicate key update id = workflow_executions.id;

-- name: created_executions
-- Which of these ids this batch made.
select id from workflow_executions where id in %(ids)s and token = %(token)s;

-- name: marks
-- What verdicts are judged by, locked.
select id, fence, nudges from workflow_executions force index (primary)
where id in %(ids)s
order by id
for update;

-- name: suppose
-- Ends the packet by an error unless the worker stands, and every change's fence and every park's nudges.
insert into queues (name)
select null from dual
where not (
    (select count(*) from workers k where k.id = %(worker)s and k.epoch = %(epoch)s and k.state = 'live') = 1
    and %(changes)s = (
        select count(*) from workflow_executions w
        where w.id in %(ids)s and ((w.id, w.fence) in %(fences)s or (w.id, w.fence, w.nudges) in %(parks)s)
    )
);

-- name: change
-- An execution as its owner leaves it.
update workflow_executions
set status = %(status)s,
    owner = if(%(keeps)s, owner, null),
    output = if(%(checksum)s is null, output, %(output)s),
    error = if(%(checksum)s is null, error, %(error)s),
    checksum = coalesce(%(checksum)s, checksum),
    reason = %(reason)s,
    wake_at = %(wake_at)s,
    token = %(token)s,
    updated_at = %(at)s,
    input = coalesce(%(input)s, input),
    generation = coalesce(%(generation)s, generation),
    base_seq = coalesce(%(base_seq)s, base_seq),
    attributes = coalesce(%(attributes)s, attributes),
    refused = coalesce(%(refused)s, refused),
    wish = if(%(status)s = 'cancelled', 'cancel', wish),
    wish_by = if(%(status)s = 'cancelled', %(by)s, wish_by),
    wish_reason = if(%(status)s = 'cancelled', %(reason)s, wish_reason),
    ended_at = if(
        %(status)s in ('completed', 'failed', 'cancelled', 'rolled_back', 'rollback_failed'), %(at)s, null
    )
where id = %(id)s;

-- name: insert_requests
-- What is asked, unless it was asked before.
insert into approval_requests (
    id, execution_id, `key`, generation, kind, message, details, `schema`, default_answer, assignee, status, answer,
    answered_by, answered_via, checksum, expires_at, created_at, decided_at, policy, digest
) values %(rows)s
on duplicate key update id = approval_requests.id;

-- name: put_actions
-- What undoes entries, as it stands now.
insert into rollback_actions (
    execution_id, generation, seq, `key`, `undo`, status, attempt, output, error, encoding, checksum, resolved_by,
    started_at, completed_at
) values %(rows)s
on duplicate key update
    `undo` = values(`undo`),
    status = values(status),
    attempt = values(attempt),
    output = values(output),
    error = values(error),
    encoding = values(encoding),
    checksum = values(checksum),
    resolved_by = values(resolved_by),
    started_at = values(started_at),
    completed_at = values(completed_at);

-- name: insert_snapshots
-- The states behind entries, unless they are there: a batch may come again.
insert into state_snapshots (
    execution_id, seq, branch, generation, name, cause, kind, base_digest, digest, state, encoding, checksum,
    created_at
) values %(rows)s
on duplicate key update seq = state_snapshots.seq;

-- name: close_requests
-- Waits that were withdrawn. Not those of the refused.
update approval_requests
set status = 'withdrawn', decided_at = %(now)s
where id in %(ids)s and status = 'open' and execution_id not in %(refused)s;

-- name: free_message
-- The message that an entry took was not used.
update messages set taken_seq = null
where execution_id = %(id)s and taken_seq = %(seq)s and execution_id not in %(refused)s;

-- name: take_message
-- An entry received a message.
update messages set taken_seq = %(seq)s where id = %(id)s and execution_id not in %(refused)s;

-- name: settle_executions
-- What settling a batch needs of the executions that it created or changed.
select id, fence, token, created_at from workflow_executions where id in %(ids)s;

-- name: settle_entries
-- Which of these entries stand, as the batch wrote them.
select e.execution_id, e.seq, e.fence, e.`key`
from step_executions e
where (e.execution_id, e.seq) in %(places)s;

-- name: settle_durably
-- InnoDB shows a commit before it is in the log. What is committed after this is behind it there, so that it is kept, too.
update workers set lease_until = lease_until + interval 1 microsecond where id = %(worker)s;

-- name: own_thread
-- Which session serves us.
select connection_id();

-- name: has_thread
-- Is this connection there?
select count(*) from information_schema.processlist where id = %(thread)s;

-- name: end_thread
-- Ends a session of ours that was given up, whatever it has not read yet.
kill connection %(thread)s;
