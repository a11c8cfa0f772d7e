-- What the PostgreSQL store says. The model is told in perdure/store.py. Every verb is one statement at READ COMMITTED,
-- unless stores/postgres.py says so. Three facts of PostgreSQL carry the rules:
--   * a statement that waited for a row's lock sees that row anew, all else as it was when the statement began. So each
--     decision is taken from columns of rows that this same statement has locked;
--   * `materialized` makes a locking part run once, `order by id` makes it lock in one order, and a part that reads
--     `exists (select from me)` runs after the worker's lock was taken. None of these is decoration;
--   * `for no key update` stands against itself, as every lock here must.
-- Order of locks: worker, executions by id, requests. Times come as bigint, microseconds since 1970, for
-- `perdure_time`; what is read as `w.*` is taken by column name, so that an older library reads a newer table.

-- name: register_worker
-- A worker appears; it is alive from the server's now on.
insert into workers (epoch, state, host, pid, process, build, workflows, queues, started_at, lease_until)
select 1, 'live', $1, $2, $3, $4, $5, $6, t.now, t.now + $7::bigint * interval '1 microsecond'
from (select clock_timestamp() as now) t
returning *;

-- name: register_definitions
-- The workflows that a worker registered.
insert into workflow_definitions as d (name, version, build, registered_at)
select distinct k ->> 0, (k ->> 1)::integer, $2, clock_timestamp()
from json_array_elements($1::text::json) as k
order by 1, 2
on conflict (name, version) do update set build = excluded.build, registered_at = excluded.registered_at
where d.build <> excluded.build;

-- name: forget_workers
-- Workers that left, or died, more than a day ago, and own nothing. Their ids are never given again.
delete from workers k
where k.state <> 'live' and k.lease_until < clock_timestamp() - interval '1 day'
    and not exists (select from workflow_executions w where w.owner = k.id);

-- name: release_worker
-- The worker leaves for good.
update workers set state = 'gone' where id = $1 and epoch = $2 and state = 'live' returning true;

-- name: release_executions
-- What a worker that has left still owned becomes pending; a rollback is due at once.
with owned as materialized (
    select id from workflow_executions where owner = $1 order by id for no key update
)
update workflow_executions w
set status = case when w.status = 'rolling_back' then w.status else 'pending' end,
    wake_at = case when w.status = 'rolling_back' then clock_timestamp() else w.wake_at end,
    owner = null,
    updated_at = clock_timestamp()
from owned
where w.id = owned.id and w.owner = $1;

-- name: heartbeat
-- Renews the lease of a worker that is still alive. Gives (alive, the server's now).
with renewed as (
    update workers set lease_until = clock_timestamp() + $3::bigint * interval '1 microsecond'
    where id = $1 and epoch = $2 and state = 'live'
    returning true
)
select
    exists (select from renewed) as alive,
    (extract(epoch from clock_timestamp()) * 1000000)::bigint as now;

-- name: suspects
-- Other live workers whose lease is over (`late`), or whose lock is free.
select id, late
from (
    select id, lease_until < clock_timestamp() as late, case
        when presence = (extract(epoch from pg_postmaster_start_time()) * 1000000)::bigint::text
        then pg_try_advisory_xact_lock_shared(tableoid::integer, id::integer)
        else false
    end as free
    from workers
    where state = 'live' and id <> $1
) k
where late or free
order by id;

-- name: declare_dead
-- Ends a worker whose lease is over or whose lock is free, after waiting for its commit under way; $2: whatever they say.
update workers set epoch = epoch + 1, state = 'dead'
where id = $1 and state = 'live' and case
        when $2::boolean or lease_until < clock_timestamp() then true
        when presence = (extract(epoch from pg_postmaster_start_time()) * 1000000)::bigint::text
        then pg_try_advisory_xact_lock_shared(tableoid::integer, id::integer)
        else false
    end
returning true;

-- name: is_dead
-- Is this worker known, and not alive?
select exists (select from workers where id = $1 and state <> 'live');

-- name: load_journals
-- The journals that replay needs: what stands behind a restart, without the entries of a body (one group with its
-- outcome) that has an outcome.
with wanted as materialized (
    select i.id, coalesce(w.base_seq, 0) as base_seq, coalesce(w.generation, 0) = 0 as folds
    from (select distinct unnest($1::text[]) collate "C" as id) i
    left join workflow_executions w on w.id = i.id
), folded as materialized (
    select e.execution_id, coalesce(e.parent_key, e.key) as body
    from wanted i
    join step_executions e on e.execution_id = i.id and e.seq > i.base_seq
    where i.folds
    group by 1, 2
    having bool_or(e.parent_key is not null)
        and bool_or(
            e.parent_key is null and e.kind not in ('intent', 'attempt') and e.status in ('completed', 'failed')
        )
), bodies as materialized (
    select array_agg(execution_id) as ids, array_agg(body) as keys from folded
)
select
    e.execution_id, e.seq, e.generation, e.key, e.kind, e.status, e.attempt, e.fence, e.parent_key, e.input, e.output,
    e.error, e.encoding, e.checksum, e.build, e.started_at, e.completed_at
from wanted i
join step_executions e on e.execution_id = i.id and e.seq > i.base_seq
where e.parent_key is null
    or (e.execution_id, e.parent_key) not in (
        select f.execution_id, f.key from bodies b, unnest(b.ids, b.keys) as f (execution_id, key)
    )
order by e.execution_id, e.seq;

-- name: inbox_executions
-- Read before all else of an inbox: what comes later raises the nudges.
select id, nudges, wish, wish_by, wish_reason from workflow_executions where id = any($1::text[]);

-- name: inbox_requests
-- All requests of these executions.
select r.* from approval_requests r where r.execution_id = any($1::text[]) order by r.created_at, r.id;

-- name: inbox_messages
-- The messages of these executions that are not taken yet.
select m.* from messages m where m.execution_id = any($1::text[]) and m.taken_seq is null order by m.ordinal, m.id;

-- name: inbox_children
-- All children of these executions.
select w.* from workflow_executions w where w.parent_id = any($1::text[]) order by w.created_at, w.id;

-- name: nudged
-- The nudges of what a worker owns.
select id, nudges from workflow_executions where owner = $1;

-- name: deliver_decision
-- An answer ($2), or an expiry, of a request. Gives its row as it then stands, and the verdict; no row: there is none.
with asked as materialized (
    select r.execution_id from approval_requests r where r.id = $1
), execution as materialized (
    select w.id, w.status, w.wish, w.generation from workflow_executions w
    where w.id = (select execution_id from asked)
    for no key update
), request as materialized (
    select r.* from approval_requests r where r.id = $1 and exists (select from execution) for no key update
), judged as materialized (
    select r.id, w.id as execution_id, case
        when $2::boolean and r.status = 'decided' and r.answer = $3::text then 'repeat'
        when r.status <> 'open' then 'decided'
        when w.status in ('completed', 'failed', 'cancelled', 'rolled_back', 'rollback_failed') then 'ended'
        when w.status = 'rolling_back' then 'ended'
        when case when w.wish like '{%' then (w.wish::json ->> 'generation')::integer = w.generation end then 'ended'
        else 'ok'
    end as verdict
    from request r, execution w
), decided as (
    update approval_requests r
    set status = case when $2 then 'decided' else 'expired' end,
        answer = $3,
        answered_by = $4,
        answered_via = $5,
        checksum = case when $2 then $6::bigint else r.checksum end,
        decided_at = clock_timestamp()
    from judged j
    where r.id = j.id and r.id = $1 and j.verdict = 'ok'
    returning r.*
), nudged as (
    update workflow_executions w
    set nudges = w.nudges + 1,
        status = case when w.status = 'waiting' then 'pending' else w.status end,
        wake_at = case when w.status = 'waiting' then null else w.wake_at end,
        updated_at = clock_timestamp()
    from judged j
    where w.id = j.execution_id and w.id = (select execution_id from asked) and j.verdict = 'ok'
)
select r.*, j.verdict
from judged j, (select * from decided union all select * from request where not exists (select from decided)) r;

-- name: deliver_message
-- A message. Its ordinal is the nudge that it is, as the only counter that the lock keeps fresh. No verdict: gone. "full"
-- if as many as $7 wait, or may wait: who has waited for the lock does not see what was sent meanwhile. So they are
-- counted only where there were so many nudges.
with execution as materialized (
    select w.id, w.nudges, w.status from workflow_executions w where w.id = $2 for no key update
), full_ones as materialized (
    select w.id
    from execution w
    where w.nudges >= $7::bigint
        and (select count(*) from messages m where m.execution_id = w.id and m.taken_seq is null) >= $7::bigint
), posted as (
    insert into messages (id, execution_id, name, value, checksum, ordinal, sent_by, created_at)
    select $1, w.id, $3, $4, $5, w.nudges + 1, $6, clock_timestamp()
    from execution w
    where w.status not in ('completed', 'failed', 'cancelled', 'rolled_back', 'rollback_failed')
        and not exists (select from full_ones)
    on conflict (id) do nothing
    returning execution_id
), nudged as (
    update workflow_executions w
    set nudges = w.nudges + 1,
        status = case when w.status = 'waiting' then 'pending' else w.status end,
        wake_at = case when w.status = 'waiting' then null else w.wake_at end,
        updated_at = clock_timestamp()
    from posted p
    where w.id = p.execution_id and w.id = $2
)
select case
    when exists (select from posted) then 'ok'
    when w.status in ('completed', 'failed', 'cancelled', 'rolled_back', 'rollback_failed') then 'ended'
    when exists (select from full_ones) then 'full'
    else 'repeat'
end as verdict
from execution w;

-- name: has_message
-- Was a message of this id delivered?
select exists (select from messages where id = $1);

-- name: deliver_wish
-- What the owner shall do. No verdict: gone.
with execution as materialized (
    select w.id, w.status, w.wish, w.generation from workflow_executions w where w.id = $1 for no key update
), judged as materialized (
    select id, case
        when status in ('completed', 'failed', 'cancelled', 'rolled_back', 'rollback_failed') then 'ended'
        when status = 'rolling_back' then 'owned'
        when status in ('pending', 'running', 'waiting')
            and case when wish like '{%' then (wish::json ->> 'generation')::integer = generation end then 'owned'
        else 'ok'
    end as verdict
    from execution
), wished as (
    update workflow_executions w
    set wish = $2,
        wish_by = case when w.wish = 'cancel' and $2 = 'cancel' then w.wish_by else $3 end,
        wish_reason = case when w.wish = 'cancel' and $2 = 'cancel' then w.wish_reason else $4 end,
        nudges = w.nudges + 1,
        status = case when w.status = 'waiting' then 'pending' else w.status end,
        wake_at = case when w.status = 'waiting' then null else w.wake_at end,
        updated_at = clock_timestamp()
    from judged j
    where w.id = j.id and w.id = $1 and j.verdict = 'ok'
)
select verdict from judged;

-- name: lock_family
-- An execution and its parent, if it has one.
select w.id
from workflow_executions w
where w.id = any(array(select $1::text union select p.parent_id from workflow_executions p where p.id = $1))
order by w.id
for no key update;

-- name: deliver_settle
-- Carries out a wish to cancel or to pause an execution that nobody alive owns; who is cancelled nudges its parent.
-- In one transaction with `lock_family`, after it. No verdict: gone.
with judged as materialized (
    select w.id, w.parent_id, w.wish, case
        when w.status in ('completed', 'failed', 'cancelled', 'rolled_back', 'rollback_failed') then 'ended'
        when w.wish is null or w.wish not in ('cancel', 'pause') then 'owned'
        when w.status not in ('pending', 'running', 'waiting', 'paused', 'blocked') then 'owned'
        when w.wish = 'pause' and w.status = 'blocked' then 'owned'
        when w.owner is not null and not exists (select from workers k where k.id = w.owner and k.state <> 'live')
        then 'owned'
        else 'ok'
    end as verdict
    from workflow_executions w
    where w.id = $1
), settled as (
    update workflow_executions w
    set status = case when j.wish = 'cancel' then 'cancelled' else 'paused' end,
        owner = null,
        fence = w.fence + 1,
        wake_at = null,
        reason = w.wish_reason,
        updated_at = clock_timestamp(),
        ended_at = case when j.wish = 'cancel' then clock_timestamp() end
    from judged j
    where w.id = j.id and w.id = $1 and j.verdict = 'ok'
), withdrawn as (
    update approval_requests r
    set status = 'withdrawn', decided_at = clock_timestamp()
    from judged j
    where r.execution_id = j.id and r.execution_id = $1 and r.status = 'open' and j.verdict = 'ok'
        and j.wish = 'cancel'
), nudged as (
    update workflow_executions w
    set nudges = w.nudges + 1,
        status = case when w.status = 'waiting' then 'pending' else w.status end,
        wake_at = case when w.status = 'waiting' then null else w.wake_at end,
        updated_at = clock_timestamp()
    from judged j
    where w.id = j.parent_id and j.verdict = 'ok' and j.wish = 'cancel'
)
select verdict from judged;

-- name: deliver_cut
-- Voids the end of an ended execution's journal by an entry ($1 to $17), and makes it pending. In one transaction with
-- `lock_family`, after it: so it sees the messages that the end's own commit took. No verdict: gone.
with execution as materialized (
    select w.id, w.fence = $18::bigint and w.status in ('failed', 'cancelled', 'rolled_back') as stands
    from workflow_executions w
    where w.id = $1
), recorded as (
    insert into step_executions (
        execution_id, seq, generation, key, kind, status, attempt, fence, parent_key, input, output, error, encoding,
        checksum, build, started_at, completed_at
    )
    select
        $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15,
        perdure_time($16::bigint),
        perdure_time($17::bigint)
    from execution w
    where w.stands
    on conflict (execution_id, seq) do nothing
    returning execution_id
), revived as (
    update workflow_executions w
    set status = 'pending',
        fence = w.fence + 1,
        nudges = w.nudges + 1,
        crashes = 0,
        checksum = $20::bigint,
        output = null,
        error = null,
        reason = null,
        wake_at = null,
        refused = null,
        wish = null,
        wish_by = null,
        wish_reason = null,
        updated_at = clock_timestamp(),
        ended_at = null
    from recorded e
    where w.id = e.execution_id and w.id = $1
), freed as (
    update messages m
    set taken_seq = null
    from recorded e
    where m.execution_id = e.execution_id and m.execution_id = $1 and m.taken_seq >= $19::bigint
)
select case when exists (select from recorded) then 'ok' else 'owned' end as verdict from execution;

-- name: deliver_resume
-- Makes a paused or blocked execution pending. No verdict: gone.
with execution as materialized (
    select w.id, w.status from workflow_executions w where w.id = $1 for no key update
), judged as materialized (
    select id, case
        when status in ('completed', 'failed', 'cancelled', 'rolled_back', 'rollback_failed') then 'ended'
        when status not in ('paused', 'blocked') then 'owned'
        else 'ok'
    end as verdict
    from execution
), resumed as (
    update workflow_executions w
    set status = 'pending',
        nudges = w.nudges + 1,
        reason = null,
        wake_at = null,
        crashes = 0,
        refused = null,
        wish = case when w.wish = 'pause' then null else w.wish end,
        wish_by = case when w.wish = 'pause' then null else w.wish_by end,
        wish_reason = case when w.wish = 'pause' then null else w.wish_reason end,
        updated_at = clock_timestamp()
    from judged j
    where w.id = j.id and w.id = $1 and j.verdict = 'ok'
)
select verdict from judged;

-- name: standing
-- How an execution stands. In one transaction with `lock_family`, after it, as are the next ones.
select
    w.status,
    w.wish,
    w.generation,
    coalesce((select max(a.ordinal) from audit_events a where a.execution_id = w.id), 0) as events
from workflow_executions w
where w.id = $1;

-- name: wish
-- What the owner shall do, or whoever claims it.
update workflow_executions set wish = $2, wish_by = $3, wish_reason = $4 where id = $1;

-- name: nudge
-- Something has come for an execution; if it was parked, it is due.
update workflow_executions
set nudges = nudges + 1,
    status = case when status = 'waiting' then 'pending' else status end,
    wake_at = case when status = 'waiting' then null else wake_at end,
    updated_at = clock_timestamp()
where id = $1;

-- name: roll_back
-- It is to be rolled back by whoever claims it, now.
update workflow_executions
set status = 'rolling_back',
    owner = null,
    nudges = nudges + 1,
    crashes = 0,
    wake_at = clock_timestamp(),
    updated_at = clock_timestamp(),
    ended_at = null
where id = $1;

-- name: lock_request
-- A request, after the lock of its execution.
select r.* from approval_requests r where r.id = $1 for no key update;

-- name: asking
-- Whose request it is.
select execution_id from approval_requests where id = $1;

-- name: take_part
-- Somebody's part in a request. What is null of the last four stays as it is.
update approval_requests
set status = $2,
    answer = $3,
    answered_by = $4,
    answered_via = $5,
    decided_at = case when $2 = 'open' then null else clock_timestamp() end,
    checksum = coalesce($6::bigint, checksum),
    policy = coalesce($7::text, policy),
    assignee = coalesce($8::text, assignee),
    expires_at = coalesce(perdure_time($9::bigint), expires_at)
where id = $1
returning *;

-- name: insert_decisions
-- Somebody's words.
insert into approval_decisions (
    request_id, ordinal, execution_id, action_id, decision, arguments, comment, digest, decided_by, decided_via,
    decided_at
)
select
    d.request_id, d.ordinal, d.execution_id, d.action_id, d.decision, d.arguments, d.comment, d.digest, d.decided_by,
    d.decided_via, perdure_time(d.decided_at)
from json_to_recordset($1::text::json) as d (
    request_id text, ordinal bigint, execution_id text, action_id text, decision text, arguments text, comment text,
    digest text, decided_by text, decided_via text, decided_at bigint
);

-- name: insert_events
-- What was done from outside.
insert into audit_events (
    execution_id, ordinal, request_id, what, actor, via, comment, details, previous, digest, created_at
)
select
    a.execution_id, a.ordinal, a.request_id, a.what, a.actor, a.via, a.comment, a.details, a.previous, a.digest,
    perdure_time(a.created_at)
from json_to_recordset($1::text::json) as a (
    execution_id text, ordinal bigint, request_id text, what text, actor text, via text, comment text, details text,
    previous text, digest text, created_at bigint
);

-- name: dossier_decisions
-- The decisions about these executions' requests.
select d.*, r.execution_id as of_execution
from approval_decisions d
join approval_requests r on r.id = d.request_id
where r.execution_id = any($1::text[])
order by d.request_id, d.ordinal;

-- name: dossier_events
-- What was done to these executions from outside.
select a.* from audit_events a where a.execution_id = any($1::text[]) order by a.execution_id, a.ordinal;

-- name: dossier_actions
-- What undoes them.
select a.* from rollback_actions a
where a.execution_id = any($1::text[])
order by a.execution_id, a.generation, a.seq desc;

-- name: dossier_snapshots
-- Their states.
select s.* from state_snapshots s where s.execution_id = any($1::text[]) order by s.execution_id, s.seq, s.branch;

-- name: known
-- Which of these executions are there.
select id from workflow_executions where id = any($1::text[]);

-- name: lock_families
-- These executions, their parents and children: none of them begins anew while the others are removed.
select w.id
from workflow_executions w
where w.id = any(array(
    select unnest($1::text[])
    union select p.parent_id from workflow_executions p where p.id = any($1) and p.parent_id is not null
    union select c.id from workflow_executions c where c.parent_id = any($1)
))
order by w.id
for no key update;

-- name: prune
-- Removes those that have ended, as have their parents and children. In one transaction with `lock_families`, after it.
with over as materialized (
    select w.id
    from workflow_executions w
    where w.id = any($1::text[])
        and w.status in ('completed', 'failed', 'cancelled', 'rolled_back', 'rollback_failed')
        and not exists (
            select from workflow_executions o
            where o.id = w.parent_id
                and o.status not in ('completed', 'failed', 'cancelled', 'rolled_back', 'rollback_failed')
        )
        and not exists (
            select from workflow_executions o
            where o.parent_id = w.id
                and o.status not in ('completed', 'failed', 'cancelled', 'rolled_back', 'rollback_failed')
        )
), entries as (
    delete from step_executions where execution_id = any(array(select id from over))
), snapshots as (
    delete from state_snapshots where execution_id = any(array(select id from over))
), decisions as (
    delete from approval_decisions where request_id = any(array(
        select r.id from approval_requests r where r.execution_id = any(array(select id from over))
    ))
), requests as (
    delete from approval_requests where execution_id = any(array(select id from over))
), events as (
    delete from audit_events where execution_id = any(array(select id from over))
), actions as (
    delete from rollback_actions where execution_id = any(array(select id from over))
), news as (
    delete from messages where execution_id = any(array(select id from over))
), chunks as (
    delete from payload_chunks where execution_id = any(array(select id from over))
), refusals as (
    delete from outbox where refused is not null and execution_id = any(array(select id from over))
), removed as (
    delete from workflow_executions where id = any(array(select id from over))
)
select id from over;

-- name: put_schedule
-- A new schedule, or another one of that name.
insert into schedules (
    name, workflow, version, cron, timezone, overlap, backfill, input, queue, paused, next_at, last_at, last_id,
    created_at
) values (
    $1, $2, $3, $4, $5, $6, $7, $8, $9, $10,
    perdure_time($11::bigint),
    perdure_time($12::bigint),
    $13,
    perdure_time($14::bigint)
)
on conflict (name) do update set
    workflow = excluded.workflow,
    version = excluded.version,
    cron = excluded.cron,
    timezone = excluded.timezone,
    overlap = excluded.overlap,
    backfill = excluded.backfill,
    input = excluded.input,
    queue = excluded.queue,
    paused = excluded.paused,
    next_at = excluded.next_at,
    last_at = excluded.last_at,
    last_id = excluded.last_id,
    created_at = excluded.created_at;

-- name: move_schedule
-- The same of one whose next time ($15) is still what was known.
update schedules s
set workflow = $2,
    version = $3,
    cron = $4,
    timezone = $5,
    overlap = $6,
    backfill = $7,
    input = $8,
    queue = $9,
    paused = $10,
    next_at = perdure_time($11::bigint),
    last_at = perdure_time($12::bigint),
    last_id = $13,
    created_at = perdure_time($14::bigint)
where s.name = $1 and s.next_at is not distinct from perdure_time($15::bigint)
returning true;

-- name: remove_schedule
-- It starts nothing any more.
delete from schedules where name = $1 returning true;

-- name: next_wake
-- When the next parked or delayed execution is due.
select min(wake_at) from workflow_executions where status in ('pending', 'waiting', 'rolling_back') and wake_at is not null;

-- name: look
-- Which process serves us, and whether this database acknowledges commits before they are durable.
select pg_backend_pid() as process, current_setting('synchronous_commit') = 'off' as lazy;

-- name: prepare_transaction
-- What is acknowledged is durable, whatever the database's own setting is; for one transaction.
select set_config('synchronous_commit', 'on', true);

-- name: prepare_session
-- Settings that the rules here rest on, whatever the database's own are. All here is found by some index: plans made
-- while tables are small, or before they were analyzed, must stay right when they have grown.
select
    set_config('default_transaction_isolation', 'read committed', false),
    set_config('synchronous_commit', coalesce(nullif(current_setting('synchronous_commit'), 'off'), 'on'), false),
    set_config('idle_in_transaction_session_timeout', '30s', false),
    set_config('tcp_keepalives_idle', '3', false),
    set_config('tcp_keepalives_interval', '1', false),
    set_config('tcp_keepalives_count', '3', false),
    set_config('enable_seqscan', 'off', false),
    set_config('jit', 'off', false);

-- name: prepare_commits
-- All that a commit touches it finds by key: one plan is right for all. Gives which session it is, and since when.
select set_config('plan_cache_mode', 'force_generic_plan', false), a.pid, a.backend_start
from (select) one
left join pg_stat_activity a on a.pid = pg_backend_pid();

-- name: end_session
-- Ends a session of ours that was given up, whatever it has not read yet. No row: it has ended.
select pg_terminate_backend(a.pid) from pg_stat_activity a where a.pid = $1 and a.backend_start = $2;

-- name: prepare_heartbeats
-- A heartbeat that is lost with the server was not needed.
select set_config('synchronous_commit', 'off', false);

-- name: lock_schema
-- One migrates at a time; the others wait here until its transaction ends.
select pg_advisory_xact_lock(hashtextextended('perdure schema ' || coalesce(current_schema(), ''), 0));

-- name: find_schema
-- Is there a schema of this name?
select exists (select from pg_namespace where nspname = current_schema());

-- name: find_tables
-- Which of these tables are in the schema where new ones would be made.
select c.relname from pg_class c
where c.relname = any($1::text[]::name[])
    and c.relkind in ('r', 'p')
    and c.relnamespace = (select n.oid from pg_namespace n where n.nspname = current_schema());

-- name: schema_version
-- The newest migration applied, and the oldest library that may write here.
select version, oldest_writer from schema_versions where version < 1000000000 order by version desc limit 1;

-- name: record_migration
-- A migration was applied.
insert into schema_versions (version, applied_at, oldest_writer) values ($1, clock_timestamp(), $2);
