-- What the store for MariaDB and MySQL says. The model is told in perdure/store.py. All is at READ COMMITTED. Facts of
-- these servers that carry the rules:
--   * each statement of a transaction sees what is committed as it begins, and a locking read (`for update`) what is
--     committed once it has its lock. So decisions are taken from what a locking read gave, or from reads after it;
--   * rows are locked in the order in which they are found: `force index (primary)` and `order by id` make it one order,
--     and keep rows from being locked that were looked at only;
--   * there is no `returning` on MySQL: what was written is read, in the same transaction.
-- Order of locks: worker, executions by id, requests. Values are literals (stores/mysql_columns.py). `utc_timestamp` is
-- the time at which a statement began: a lease looks longer by it, never shorter.

-- name: server
-- Who it is, and how much it takes at once.
select version(), @@max_allowed_packet;

-- name: cluster
-- Is this a node of a Galera cluster? (Others, and MySQL, give no row, or OFF.)
show variables like 'wsrep_on';

-- name: wait_for_cluster
-- What is read next is read once all is here that the cluster has acknowledged.
set session wsrep_sync_wait = 1;

-- name: caught_up
-- A read.
select 1;

-- name: wait_no_more
-- From here on one node alone is written to, and knows.
set session wsrep_sync_wait = 0;

-- name: read_committed
-- Each statement sees what is committed when it begins, and locks no gaps.
set session transaction isolation level read committed;

-- name: prepare_session
-- Settings that the rules here rest on, whatever the server's own are. Notes are read by nobody.
set session
    autocommit = 1,
    sql_mode = 'STRICT_ALL_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION',
    time_zone = '+00:00',
    innodb_lock_wait_timeout = 20,
    sql_notes = 0;

-- name: names_mariadb
-- Texts that are compared with each other, and not with a column, compare as columns do.
set names utf8mb4 collate utf8mb4_nopad_bin;

-- name: names_mysql
-- The same.
set names utf8mb4 collate utf8mb4_0900_bin;

-- name: idle_mariadb
-- A process that is stopped inside a transaction gives its locks back.
set session idle_transaction_timeout = 30;

-- name: begin
-- Everything up to the commit is one.
start transaction;

-- name: commit
-- It is done.
commit;

-- name: register_worker
-- A worker appears; it is alive from the server's now on.
insert into workers (epoch, state, host, pid, process, build, workflows, queues, started_at, lease_until, counts)
values (
    1, 'live', %(host)s, %(pid)s, %(process)s, %(build)s, %(workflows)s, %(queues)s, utc_timestamp(6),
    utc_timestamp(6) + interval %(lease)s microsecond, true
);

-- name: registered_worker
-- The one that this connection has just registered.
select k.* from workers k where k.id = last_insert_id();

-- name: register_definitions
-- The workflows that a worker registered.
insert into workflow_definitions (name, version, build, registered_at)
values %(rows)s
on duplicate key update
    registered_at = if(build <> values(build), values(registered_at), registered_at),
    build = values(build);

-- name: forgettable_workers
-- Workers that left, or died, more than a day ago, and own nothing. Their ids are never given again.
select k.id from workers k
where k.state <> 'live' and k.counts and k.lease_until < utc_timestamp(6) - interval 1 day
    and (
        select w.owner from workflow_executions w force index (workflow_executions_owned) where w.owner = k.id limit 1
    ) is null;

-- name: forget_workers
-- Those.
delete from workers where id in %(ids)s and state <> 'live';

-- name: release_worker
-- The worker leaves for good.
update workers set state = 'gone' where id = %(worker)s and epoch = %(epoch)s and state = 'live';

-- name: release_executions
-- What a worker that has left still owned becomes pending.
update workflow_executions
set wake_at = if(status = 'rolling_back', utc_timestamp(6), wake_at),
    status = if(status = 'rolling_back', status, 'pending'),
    owner = null,
    updated_at = utc_timestamp(6)
where owner = %(worker)s
    and exists (select 1 from workers k where k.id = %(worker)s and k.state = 'gone' and k.epoch = %(epoch)s);

-- name: heartbeat
-- Renews the lease of a worker that is still alive. The time at which that was comes with the answer, as if it were the
-- id of a new row: so it takes no second statement.
update workers
set lease_until = utc_timestamp(6) + interval %(lease)s microsecond,
    epoch = epoch + 0 * last_insert_id(timestampdiff(microsecond, '1970-01-01', utc_timestamp(6)))
where id = %(worker)s and epoch = %(epoch)s and state = 'live';

-- name: now
-- The server's time.
select utc_timestamp(6);

-- name: suspects
-- Other live workers whose lease is over (`late`), or whose lock is free.
select id, late
from (
    select id, lease_until < utc_timestamp(6) as late, case
        when presence = %(here)s then is_free_lock(concat('perdure.', left(sha1(database()), 20), '.', id)) = 1
        else false
    end as free
    from workers
    where state = 'live' and id <> %(worker)s
) k
where late or free
order by id;

-- name: declare_dead
-- Ends a worker whose lease is over or whose lock is free, after waiting for its commit under way; `anyway`: whatever
-- they say.
update workers set epoch = epoch + 1, state = 'dead'
where id = %(worker)s and state = 'live' and case
        when %(anyway)s or lease_until < utc_timestamp(6) then true
        when presence = %(here)s then is_free_lock(concat('perdure.', left(sha1(database()), 20), '.', id)) = 1
        else false
    end;

-- name: is_dead
-- Is this worker known, and not alive?
select exists (select 1 from workers where id = %(worker)s and state <> 'live');

-- name: inner_keys
-- The bodies with inner entries, of these journals: mostly there are none.
select distinct e.execution_id, e.parent_key
from step_executions e
join workflow_executions w on w.id = e.execution_id
where e.execution_id in %(ids)s and e.parent_key is not null and w.generation = 0 and e.seq > w.base_seq;

-- name: inner_keys_alone
-- The same of journals without an execution's row.
select distinct e.execution_id, e.parent_key
from step_executions e
where e.execution_id in %(ids)s and e.parent_key is not null
    and not exists (select 1 from workflow_executions w where w.id = e.execution_id);

-- name: outcomes
-- Which of these bodies have an outcome.
select e.execution_id, e.`key`
from step_executions e
left join workflow_executions w on w.id = e.execution_id
where e.execution_id in %(ids)s and (e.execution_id, e.`key`) in %(bodies)s and e.seq > coalesce(w.base_seq, 0)
    and e.kind not in ('intent', 'attempt') and e.status in ('completed', 'failed');

-- name: load_journals
-- The journals that replay needs: what stands behind a restart, without the entries of these bodies.
select
    e.execution_id, e.seq, e.generation, e.`key`, e.kind, e.status, e.attempt, e.fence, e.parent_key, e.input, e.output,
    e.error, e.encoding, e.checksum, e.build, e.started_at, e.completed_at
from step_executions e
left join workflow_executions w on w.id = e.execution_id
where e.execution_id in %(ids)s and e.seq > coalesce(w.base_seq, 0)
    and (e.parent_key is null or (e.execution_id, e.parent_key) not in %(folded)s)
order by e.execution_id, e.seq;

-- name: inbox_executions
-- Read before all else of an inbox: what comes later raises the nudges.
select id, nudges, wish, wish_by, wish_reason from workflow_executions where id in %(ids)s;

-- name: inbox_requests
-- All requests of these executions.
select r.* from approval_requests r where r.execution_id in %(ids)s order by r.created_at, r.id;

-- name: inbox_messages
-- The messages of these executions that are not taken yet.
select m.* from messages m where m.execution_id in %(ids)s and m.taken_seq is null order by m.ordinal, m.id;

-- name: inbox_children
-- All children of these executions.
select w.* from workflow_executions w where w.parent_id in %(ids)s order by w.created_at, w.id;

-- name: nudged
-- The nudges of what a worker owns.
select id, nudges from workflow_executions where owner = %(worker)s;

-- name: standing
-- How an execution stands at the moment of a delivery, under its lock.
select w.id, w.status, w.parent_id, w.wish, w.fence, w.nudges, w.owner, w.generation
from workflow_executions w where w.id = %(id)s
for update;

-- name: standing_of_request
-- The same of the execution that asked.
select w.id, w.status, w.parent_id, w.wish, w.fence, w.nudges, w.owner, w.generation
from workflow_executions w where w.id = (select r.execution_id from approval_requests r where r.id = %(id)s)
for update;

-- name: lock_family
-- An execution and its parent, if it has one.
select w.id, w.status, w.parent_id, w.wish, w.fence, w.nudges, w.owner, w.generation
from workflow_executions w force index (primary)
where w.id in (%(id)s, coalesce((select p.parent_id from workflow_executions p where p.id = %(id)s), %(id)s))
order by w.id
for update;

-- name: is_alive
-- Is there a worker of this id that is not known to be dead?
select not exists (select 1 from workers where id = %(worker)s and state <> 'live');

-- name: request_under_lock
-- A request, after the lock of its execution.
select r.* from approval_requests r where r.id = %(id)s for update;

-- name: decide_request
-- The first answer stands; or its time is over.
update approval_requests
set status = %(status)s,
    answer = %(answer)s,
    answered_by = %(by)s,
    answered_via = %(via)s,
    checksum = coalesce(%(checksum)s, checksum),
    decided_at = utc_timestamp(6)
where id = %(id)s;

-- name: get_request
-- As it stands now.
select r.* from approval_requests r where r.id = %(id)s;

-- name: nudge
-- Something has come for an execution; if it was parked, it is due. The status last: assignments see those before them.
update workflow_executions
set nudges = nudges + %(times)s,
    wake_at = if(status = 'waiting', null, wake_at),
    status = if(status = 'waiting', 'pending', status),
    updated_at = coalesce(%(at)s, utc_timestamp(6))
where id = %(id)s;

-- name: insert_decisions
-- Somebody's words.
insert into approval_decisions (
    request_id, ordinal, execution_id, action_id, decision, arguments, comment, digest, decided_by, decided_via,
    decided_at
) values %(rows)s;

-- name: insert_events
-- What was done from outside.
insert into audit_events (
    execution_id, ordinal, request_id, what, actor, via, comment, details, previous, digest, created_at
) values %(rows)s;

-- name: count_events
-- How much was done to an execution.
select coalesce(max(ordinal), 0) from audit_events where execution_id = %(id)s;

-- name: take_part
-- Somebody's part in a request. What is null of the last four stays as it is.
update approval_requests
set status = %(status)s,
    answer = %(answer)s,
    answered_by = %(by)s,
    answered_via = %(via)s,
    decided_at = if(%(status)s = 'open', null, utc_timestamp(6)),
    checksum = coalesce(%(checksum)s, checksum),
    policy = coalesce(%(policy)s, policy),
    assignee = coalesce(%(assignee)s, assignee),
    expires_at = coalesce(%(expires_at)s, expires_at)
where id = %(id)s;

-- name: roll_back
-- It is to be rolled back by whoever claims it, now.
update workflow_executions
set status = 'rolling_back',
    owner = null,
    nudges = nudges + 1,
    crashes = 0,
    wake_at = utc_timestamp(6),
    updated_at = utc_timestamp(6),
    ended_at = null
where id = %(id)s;

-- name: dossier_decisions
-- The decisions about these executions' requests.
select d.*, r.execution_id as of_execution
from approval_decisions d
join approval_requests r on r.id = d.request_id
where r.execution_id in %(ids)s
order by d.request_id, d.ordinal;

-- name: dossier_events
-- What was done to these executions from outside.
select a.* from audit_events a where a.execution_id in %(ids)s order by a.execution_id, a.ordinal;

-- name: dossier_actions
-- What undoes them.
select a.* from rollback_actions a where a.execution_id in %(ids)s order by a.execution_id, a.generation, a.seq desc;

-- name: dossier_snapshots
-- Their states.
select s.* from state_snapshots s where s.execution_id in %(ids)s order by s.execution_id, s.seq, s.branch;

-- name: known
-- Which of these executions are there.
select id from workflow_executions where id in %(ids)s;

-- name: has_message
-- Was a message of this id delivered?
select exists (select 1 from messages where id = %(id)s);

-- name: count_waiting
-- How many messages of an execution wait to be received. Under its lock.
select count(*) from messages where execution_id = %(id)s and taken_seq is null;

-- name: insert_message
-- A message. Its ordinal is the nudge that it is, as the only counter that the lock keeps fresh.
insert into messages (id, execution_id, name, value, checksum, ordinal, sent_by, created_at)
values (
    %(id)s, %(execution_id)s, %(name)s, %(value)s, %(checksum)s, %(ordinal)s, %(sent_by)s, utc_timestamp(6)
);

-- name: wish
-- What the owner shall do.
update workflow_executions set wish = %(wish)s, wish_by = %(by)s, wish_reason = %(reason)s where id = %(id)s;

-- name: settle_wish
-- Carries out a wish to cancel or to pause.
update workflow_executions
set status = %(status)s,
    owner = null,
    fence = fence + 1,
    wake_at = null,
    reason = wish_reason,
    updated_at = utc_timestamp(6),
    ended_at = if(%(status)s = 'cancelled', utc_timestamp(6), null)
where id = %(id)s;

-- name: withdraw_requests
-- Nobody waits for them any more.
update approval_requests set status = 'withdrawn', decided_at = utc_timestamp(6)
where execution_id = %(id)s and status = 'open';

-- name: resume
-- Makes a paused or blocked execution pending. The wish last, as what is asked of it is asked before.
update workflow_executions
set status = 'pending',
    nudges = nudges + 1,
    reason = null,
    wake_at = null,
    crashes = 0,
    refused = null,
    wish_by = if(wish <=> 'pause', null, wish_by),
    wish_reason = if(wish <=> 'pause', null, wish_reason),
    wish = if(wish <=> 'pause', null, wish),
    updated_at = utc_timestamp(6)
where id = %(id)s;

-- name: has_entry
-- Is there an entry of this seq?
select exists (select 1 from step_executions where execution_id = %(id)s and seq = %(seq)s);

-- name: revive
-- An ended execution begins anew behind a cut.
update workflow_executions
set status = 'pending',
    fence = fence + 1,
    nudges = nudges + 1,
    crashes = 0,
    checksum = %(checksum)s,
    output = null,
    error = null,
    reason = null,
    wake_at = null,
    refused = null,
    wish = null,
    wish_by = null,
    wish_reason = null,
    updated_at = utc_timestamp(6),
    ended_at = null
where id = %(id)s;

-- name: free_messages
-- What voided entries took is deliverable again.
update messages set taken_seq = null where execution_id = %(id)s and taken_seq >= %(from_seq)s;

-- name: families
-- These executions, their parents and children.
select w.id from workflow_executions w where w.id in %(ids)s
union
select p.parent_id from workflow_executions p where p.id in %(ids)s and p.parent_id is not null
union
select c.id from workflow_executions c where c.parent_id in %(ids)s;

-- name: lock_executions
-- None of them begins anew while the others are removed.
select w.id from workflow_executions w force index (primary) where w.id in %(ids)s order by w.id for update;

-- name: prunable
-- Those that have ended, as have their parents and children.
select w.id
from workflow_executions w
where w.id in %(ids)s
    and w.status in ('completed', 'failed', 'cancelled', 'rolled_back', 'rollback_failed')
    and not exists (
        select 1 from workflow_executions o
        where o.id = w.parent_id
            and o.status not in ('completed', 'failed', 'cancelled', 'rolled_back', 'rollback_failed')
    )
    and not exists (
        select 1 from workflow_executions o
        where o.parent_id = w.id
            and o.status not in ('completed', 'failed', 'cancelled', 'rolled_back', 'rollback_failed')
    );

-- name: prune_events
-- What was done to them.
delete from audit_events where execution_id in %(ids)s;

-- name: prune_decisions
-- The voices behind their requests' decisions.
delete d from approval_decisions d
join approval_requests r on r.id = d.request_id
where r.execution_id in %(ids)s;

-- name: prune_requests
-- What they asked.
delete from approval_requests where execution_id in %(ids)s;

-- name: prune_entries
-- Their journals.
delete from step_executions where execution_id in %(ids)s;

-- name: prune_snapshots
-- Their states.
delete from state_snapshots where execution_id in %(ids)s;

-- name: prune_actions
-- What undid them.
delete from rollback_actions where execution_id in %(ids)s;

-- name: prune_messages
-- What was sent to them.
delete from messages where execution_id in %(ids)s;

-- name: prune_chunks
-- Their large values.
delete from payload_chunks where execution_id in %(ids)s;

-- name: prune_refusals
-- What was refused about executions that are removed.
delete from outbox where refused is not null and execution_id in %(ids)s;

-- name: prune_executions
-- They themselves.
delete from workflow_executions where id in %(ids)s;

-- name: put_schedule
-- A new schedule, or another one of that name.
insert into schedules (
    name, workflow, version, cron, timezone, overlap, backfill, input, queue, paused, next_at, last_at, last_id,
    created_at
) values (
    %(name)s, %(workflow)s, %(version)s, %(cron)s, %(timezone)s, %(overlap)s, %(backfill)s, %(input)s, %(queue)s,
    %(paused)s, %(next_at)s, %(last_at)s, %(last_id)s, %(created_at)s
)
on duplicate key update
    workflow = values(workflow),
    version = values(version),
    cron = values(cron),
    timezone = values(timezone),
    overlap = values(overlap),
    backfill = values(backfill),
    input = values(input),
    queue = values(queue),
    paused = values(paused),
    next_at = values(next_at),
    last_at = values(last_at),
    last_id = values(last_id),
    created_at = values(created_at);

-- name: move_schedule
-- The same of one whose next time is still what was known.
update schedules
set workflow = %(workflow)s,
    version = %(version)s,
    cron = %(cron)s,
    timezone = %(timezone)s,
    overlap = %(overlap)s,
    backfill = %(backfill)s,
    input = %(input)s,
    queue = %(queue)s,
    paused = %(paused)s,
    next_at = %(next_at)s,
    last_at = %(last_at)s,
    last_id = %(last_id)s,
    created_at = %(created_at)s
where name = %(name)s and next_at <=> %(expected)s;

-- name: remove_schedule
-- It starts nothing any more.
delete from schedules where name = %(name)s;

-- name: next_wake
-- When the next parked or delayed execution is due.
select min(m.wake_at)
from (
    select min(p.wake_at) as wake_at from workflow_executions p where p.status = 'pending' and p.wake_at is not null
    union all
    select min(q.wake_at) from workflow_executions q where q.status = 'waiting' and q.wake_at is not null
) m;

-- name: lock_schema
-- One migrates at a time; the others wait here until it has let go, or is gone.
select get_lock(concat('perdure schema ', sha1(database())), %(seconds)s);

-- name: unlock_schema
-- The next one may.
select release_lock(concat('perdure schema ', sha1(database())));

-- name: find_tables
-- Which of these tables are in the database, and which of them are ours.
select t.table_name as name, t.table_comment = 'perdure' as ours
from information_schema.tables t
where t.table_schema = database() and t.table_name in %(names)s;

-- name: schema_version
-- The newest migration applied, and the oldest library that may write here.
select version, oldest_writer from schema_versions where version < 1000000000 order by version desc limit 1;

-- name: is_unused
-- Nobody has worked here yet.
select not exists (select 1 from workers) and not exists (select 1 from workflow_executions);

-- name: record_migration
-- A migration was applied.
insert into schema_versions (version, applied_at, oldest_writer)
values (%(version)s, utc_timestamp(6), %(oldest_writer)s)
on duplicate key update version = values(version);
