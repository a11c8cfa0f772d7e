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
-- What a worker that has left still owned becomes pending.
with owned as materialized (
    select id from workflow_executions where owner = $1 order by id for no key update
)
update workflow_executions w
set status = 'pending', owner = null, updated_at = clock_timestamp()
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
-- Other live workers whose lease is over.
select id from workers where state = 'live' and id <> $1 and lease_until < clock_timestamp() order by id;

-- name: declare_dead
-- Ends a worker whose lease is over, after waiting for its commit under way; $2: whatever its lease says.
update workers set epoch = epoch + 1, state = 'dead'
where id = $1 and state = 'live' and ($2::boolean or lease_until < clock_timestamp())
returning true;

-- name: is_dead
-- Is this worker known, and not alive?
select exists (select from workers where id = $1 and state <> 'live');

-- name: claim
-- Takes executions over: what is ready, due, or left by a worker that is not alive. Nothing is locked, and nothing
-- written, where nothing is found at a first look. A worker that this statement cannot see yet counts as alive. Among
-- due ones, the 1000 that are due longest compete by priority. `skip locked` passes over what others are about to take.
with me as materialized (
    select from workers
    where id = $1 and epoch = $2 and state = 'live'
        and (
            exists (
                select from unnest($6::text[]) as q (queue)
                cross join lateral (
                    select from workflow_executions w
                    where w.status = 'pending' and w.wake_at is null and w.queue = q.queue
                        and (w.workflow, w.version) in (select * from unnest($4::text[], $5::integer[]))
                    order by w.priority desc, w.created_at, w.id
                    limit 1
                ) w
            )
            or exists (
                select from workflow_executions w
                where w.status in ('pending', 'waiting') and w.wake_at <= (select clock_timestamp())
                    and w.queue = any($6)
                    and (w.workflow, w.version) in (select * from unnest($4::text[], $5::integer[]))
            )
            or exists (
                select from workflow_executions w
                where w.status = 'running' and w.owner = any(array(select id from workers where state <> 'live'))
                    and w.queue = any($6)
                    and (w.workflow, w.version) in (select * from unnest($4::text[], $5::integer[]))
            )
        )
    for no key update
), ready as materialized (
    select w.id, w.priority, w.created_at
    from unnest($6::text[]) as q (queue)
    cross join lateral (
        select w.id, w.priority, w.created_at
        from workflow_executions w
        where w.status = 'pending' and w.wake_at is null and w.queue = q.queue
            and (w.workflow, w.version) in (select * from unnest($4::text[], $5::integer[])) and exists (select from me)
        order by w.priority desc, w.created_at, w.id
        limit $3
        for no key update skip locked
    ) w
), due as materialized (
    select w.id, w.priority, w.created_at
    from workflow_executions w
    where w.status in ('pending', 'waiting') and w.wake_at <= (select clock_timestamp())
        and w.id = any(array(
            select d.id
            from workflow_executions d
            where d.status in ('pending', 'waiting') and d.wake_at <= (select clock_timestamp())
                and d.queue = any($6)
                and (d.workflow, d.version) in (select * from unnest($4::text[], $5::integer[]))
                and exists (select from me)
            order by d.wake_at
            limit 1000
        ))
    order by w.priority desc, w.created_at, w.id
    limit $3
    for no key update skip locked
), orphaned as materialized (
    select w.id, w.priority, w.created_at
    from workflow_executions w
    where w.status = 'running' and w.owner = any(array(select id from workers where state <> 'live'))
        and w.queue = any($6)
        and (w.workflow, w.version) in (select * from unnest($4::text[], $5::integer[])) and exists (select from me)
    order by w.priority desc, w.created_at, w.id
    limit $3
    for no key update skip locked
), chosen as materialized (
    select c.id, c.crashed, (
        select coalesce(max(e.seq), 0) from step_executions e where c.crashed and e.execution_id = c.id
    ) as seq
    from (
        select id, priority, created_at, false as crashed from ready
        union all select id, priority, created_at, false from due
        union all select id, priority, created_at, true from orphaned
        order by priority desc, created_at, id
        limit $3
    ) c
), taken as (
    update workflow_executions w
    set status = 'running',
        owner = $1,
        fence = w.fence + 1,
        wake_at = null,
        crashes = case when not c.crashed then w.crashes when c.seq > w.crash_seq then 1 else w.crashes + 1 end,
        crash_seq = case when c.crashed then c.seq else w.crash_seq end,
        updated_at = clock_timestamp()
    from chosen c
    where w.id = c.id and w.id = any(array(select id from chosen))
    returning w.*
)
select * from taken order by priority desc, created_at, id;

-- name: load_journals
-- The journals that replay needs: without the entries of a body (one group with its outcome) that has an outcome.
with folded as materialized (
    select e.execution_id, coalesce(e.parent_key, e.key) as body
    from step_executions e
    where e.execution_id = any($1::text[])
        and e.execution_id not in (
            select w.id from workflow_executions w where w.id = any($1) and w.generation > 0
        )
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
from step_executions e
where e.execution_id = any($1)
    and (
        e.parent_key is null
        or (e.execution_id, e.parent_key) not in (
            select f.execution_id, f.key from bodies b, unnest(b.ids, b.keys) as f (execution_id, key)
        )
    )
order by e.execution_id, e.seq;

-- name: history
-- A whole journal.
select
    e.execution_id, e.seq, e.generation, e.key, e.kind, e.status, e.attempt, e.fence, e.parent_key, e.input, e.output,
    e.error, e.encoding, e.checksum, e.build, e.started_at, e.completed_at
from step_executions e
where e.execution_id = $1
order by e.seq;

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
    select w.id, w.status from workflow_executions w
    where w.id = (select execution_id from asked)
    for no key update
), request as materialized (
    select r.* from approval_requests r where r.id = $1 and exists (select from execution) for no key update
), judged as materialized (
    select r.id, w.id as execution_id, case
        when $2::boolean and r.status = 'decided' and r.answer = $3::text then 'repeat'
        when r.status <> 'open' then 'decided'
        when w.status in ('completed', 'failed', 'cancelled', 'rolled_back', 'rollback_failed') then 'ended'
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
-- A message. Its ordinal is the nudge that it is, as the only counter that the lock keeps fresh. No verdict: gone.
with execution as materialized (
    select w.id, w.nudges, w.status from workflow_executions w where w.id = $2 for no key update
), posted as (
    insert into messages (id, execution_id, name, value, checksum, ordinal, sent_by, created_at)
    select $1, w.id, $3, $4, $5, w.nudges + 1, $6, clock_timestamp()
    from execution w
    where w.status not in ('completed', 'failed', 'cancelled', 'rolled_back', 'rollback_failed')
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
    else 'repeat'
end as verdict
from execution w;

-- name: has_message
-- Was a message of this id delivered?
select exists (select from messages where id = $1);

-- name: deliver_wish
-- What the owner shall do. No verdict: gone.
with execution as materialized (
    select w.id, w.status from workflow_executions w where w.id = $1 for no key update
), judged as materialized (
    select id, case
        when status in ('completed', 'failed', 'cancelled', 'rolled_back', 'rollback_failed') then 'ended'
        else 'ok'
    end as verdict
    from execution
), wished as (
    update workflow_executions w
    set wish = $2,
        wish_by = $3,
        wish_reason = $4,
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
-- Cancels an execution that nobody alive owns, and nudges its parent. In one transaction with `lock_family`, after it.
-- No verdict: gone.
with judged as materialized (
    select w.id, w.parent_id, case
        when w.status in ('completed', 'failed', 'cancelled', 'rolled_back', 'rollback_failed') then 'ended'
        when w.status not in ('pending', 'running', 'waiting', 'paused', 'blocked') then 'owned'
        when w.owner is not null and not exists (select from workers k where k.id = w.owner and k.state <> 'live')
        then 'owned'
        else 'ok'
    end as verdict
    from workflow_executions w
    where w.id = $1
), cancelled as (
    update workflow_executions w
    set status = 'cancelled',
        owner = null,
        fence = w.fence + 1,
        wake_at = null,
        reason = w.wish_reason,
        updated_at = clock_timestamp(),
        ended_at = clock_timestamp()
    from judged j
    where w.id = j.id and w.id = $1 and j.verdict = 'ok'
), withdrawn as (
    update approval_requests r
    set status = 'withdrawn', decided_at = clock_timestamp()
    from judged j
    where r.execution_id = j.id and r.execution_id = $1 and r.status = 'open' and j.verdict = 'ok'
), nudged as (
    update workflow_executions w
    set nudges = w.nudges + 1,
        status = case when w.status = 'waiting' then 'pending' else w.status end,
        wake_at = case when w.status = 'waiting' then null else w.wake_at end,
        updated_at = clock_timestamp()
    from judged j
    where w.id = j.parent_id and j.verdict = 'ok'
)
select verdict from judged;

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
        wish = case when w.wish = 'pause' then null else w.wish end,
        wish_by = case when w.wish = 'pause' then null else w.wish_by end,
        wish_reason = case when w.wish = 'pause' then null else w.wish_reason end,
        updated_at = clock_timestamp()
    from judged j
    where w.id = j.id and w.id = $1 and j.verdict = 'ok'
)
select verdict from judged;

-- name: next_wake
-- When the next parked or delayed execution is due.
select min(wake_at) from workflow_executions where status in ('pending', 'waiting') and wake_at is not null;

-- name: get_executions
-- These executions.
select w.* from workflow_executions w where w.id = any($1::text[]);

-- name: list_newest
-- A page of executions, the newest first, behind the place ($9, $10).
select w.*
from workflow_executions w
where ($1::text[] is null or w.status = any($1))
    and ($2::text is null or w.workflow = $2)
    and ($3::integer is null or w.version = $3)
    and ($4::text is null or w.parent_id = $4)
    and ($5::text is null or w.started_by = $5)
    and ($6::text is null or starts_with(w.id, $6))
    and ($7::bigint is null or w.created_at >= perdure_time($7))
    and ($8::bigint is null or w.created_at < perdure_time($8))
    and ($9::bigint is null or (w.created_at, w.id) < (perdure_time($9), $10::text))
order by w.created_at desc, w.id desc
limit $11;

-- name: list_oldest
-- A page of executions, the oldest first, behind the place ($9, $10).
select w.*
from workflow_executions w
where ($1::text[] is null or w.status = any($1))
    and ($2::text is null or w.workflow = $2)
    and ($3::integer is null or w.version = $3)
    and ($4::text is null or w.parent_id = $4)
    and ($5::text is null or w.started_by = $5)
    and ($6::text is null or starts_with(w.id, $6))
    and ($7::bigint is null or w.created_at >= perdure_time($7))
    and ($8::bigint is null or w.created_at < perdure_time($8))
    and ($9::bigint is null or (w.created_at, w.id) > (perdure_time($9), $10::text))
order by w.created_at, w.id
limit $11;

-- name: count_executions
-- How many executions match, by status.
select w.status, count(*) as number
from workflow_executions w
where ($1::text[] is null or w.status = any($1))
    and ($2::text is null or w.workflow = $2)
    and ($3::integer is null or w.version = $3)
    and ($4::text is null or w.parent_id = $4)
    and ($5::text is null or w.started_by = $5)
    and ($6::text is null or starts_with(w.id, $6))
    and ($7::bigint is null or w.created_at >= perdure_time($7))
    and ($8::bigint is null or w.created_at < perdure_time($8))
group by w.status;

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
-- All that a commit touches it finds by key: one plan is right for all.
select set_config('plan_cache_mode', 'force_generic_plan', false);

-- name: prepare_heartbeats
-- A heartbeat that is lost with the server was not needed.
select set_config('synchronous_commit', 'off', false);

-- name: lock_schema
-- One migrates at a time; the others wait here until its transaction ends.
select pg_advisory_xact_lock(hashtextextended('perdure schema ' || current_schema(), 0));

-- name: find_tables
-- Which of these tables are in the schema where new ones would be made.
select c.relname from pg_class c
where c.relname = any($1::name[]) and c.relkind in ('r', 'p') and c.relnamespace = current_schema()::regnamespace;

-- name: schema_version
-- The newest migration applied, and the oldest library that may write here.
select version, oldest_writer from schema_versions order by version desc limit 1;

-- name: record_migration
-- A migration was applied.
insert into schema_versions (version, applied_at, oldest_writer) values ($1, clock_timestamp(), $2);
