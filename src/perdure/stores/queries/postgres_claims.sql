-- Claims on PostgreSQL. The rules are told in postgres.sql. `claim` alone is for queues without limits: one statement.
-- Of a queue with limits, what may be taken is judged in Python, between `lock_queues` and `claim_these`, by statements
-- of one transaction: each of them sees what the claim has done that this one waited for.

-- name: claim
-- Takes executions over: what is ready, due, or left by a worker that is not alive. Nothing is locked, and nothing
-- written, where nothing is found at a first look. A worker that this statement cannot see yet counts as alive. Among
-- due ones, the 1000 that are due longest compete by priority. `skip locked` passes over what others are about to take.
-- Suspects are not taken, nor what refused this build ($7, as JSON).
with me as materialized (
    select from workers
    where id = $1 and epoch = $2 and state = 'live'
        and (
            exists (
                select from unnest($6::text[]) as q (queue)
                cross join lateral (
                    select from workflow_executions w
                    where w.status = 'pending' and w.wake_at is null and w.queue = q.queue and w.crashes < 2
                        and (w.workflow, w.version) in (select * from unnest($4::text[], $5::text::integer[]))
                        and (w.refused is null or $7 = '""' or strpos(w.refused, $7) = 0)
                    order by w.priority desc, w.created_at, w.id
                    limit 1
                ) w
            )
            or exists (
                select from workflow_executions w
                where w.status in ('pending', 'waiting', 'rolling_back') and w.wake_at <= (select clock_timestamp()) and w.crashes < 2
                    and w.queue = any($6)
                    and (w.workflow, w.version) in (select * from unnest($4::text[], $5::text::integer[]))
                    and (w.refused is null or $7 = '""' or strpos(w.refused, $7) = 0)
            )
            or exists (
                select from workflow_executions w
                where w.status in ('running', 'rolling_back') and w.owner = any(array(select id from workers where state <> 'live'))
                    and w.crashes = 0
                    and w.queue = any($6)
                    and (w.workflow, w.version) in (select * from unnest($4::text[], $5::text::integer[]))
                    and (w.refused is null or $7 = '""' or strpos(w.refused, $7) = 0)
            )
        )
    for no key update
), ready as materialized (
    select w.id, w.priority, w.created_at
    from unnest($6::text[]) as q (queue)
    cross join lateral (
        select w.id, w.priority, w.created_at
        from workflow_executions w
        where w.status = 'pending' and w.wake_at is null and w.queue = q.queue and w.crashes < 2
            and (w.workflow, w.version) in (select * from unnest($4::text[], $5::text::integer[]))
            and (w.refused is null or $7 = '""' or strpos(w.refused, $7) = 0) and exists (select from me)
        order by w.priority desc, w.created_at, w.id
        limit $3
        for no key update skip locked
    ) w
), due as materialized (
    select w.id, w.priority, w.created_at
    from workflow_executions w
    where w.status in ('pending', 'waiting', 'rolling_back') and w.wake_at <= (select clock_timestamp()) and w.crashes < 2
        and w.id = any(array(
            select d.id
            from workflow_executions d
            where d.status in ('pending', 'waiting', 'rolling_back') and d.wake_at <= (select clock_timestamp()) and d.crashes < 2
                and d.queue = any($6)
                and (d.workflow, d.version) in (select * from unnest($4::text[], $5::text::integer[]))
                and (d.refused is null or $7 = '""' or strpos(d.refused, $7) = 0)
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
    where w.status in ('running', 'rolling_back') and w.owner = any(array(select id from workers where state <> 'live'))
        and w.crashes = 0
        and w.queue = any($6)
        and (w.workflow, w.version) in (select * from unnest($4::text[], $5::text::integer[]))
        and (w.refused is null or $7 = '""' or strpos(w.refused, $7) = 0) and exists (select from me)
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
    set status = case when w.status = 'rolling_back' then w.status else 'running' end,
        owner = $1,
        fence = w.fence + 1,
        wake_at = null,
        crashes = case when not c.crashed then w.crashes when c.seq > w.crash_seq then 1 else w.crashes + 1 end,
        crash_seq = case when c.crashed then c.seq else w.crash_seq end,
        started_at = coalesce(w.started_at, clock_timestamp()),
        updated_at = clock_timestamp()
    from chosen c
    where w.id = c.id
    returning w.*
)
select * from taken order by priority desc, created_at, id;

-- name: claimable
-- What is ready, due, or left by a worker that is not alive, and no suspect: a look, nothing is locked.
select c.* from (
    select w.*
    from unnest($3::text[]) as q (queue)
    cross join lateral (
        select w.id, w.priority, w.created_at, w.attributes, w.started_at
        from workflow_executions w
        where w.status = 'pending' and w.wake_at is null and w.queue = q.queue and w.crashes < 2
            and (w.workflow, w.version) in (select * from unnest($1::text[], $2::text::integer[]))
            and (w.refused is null or $4 = '""' or strpos(w.refused, $4) = 0)
        order by w.priority desc, w.created_at, w.id
        limit $5
    ) w
    union all
    select w.id, w.priority, w.created_at, w.attributes, w.started_at
    from workflow_executions w
    where w.status in ('pending', 'waiting', 'rolling_back') and w.wake_at <= (select clock_timestamp()) and w.crashes < 2
        and w.queue = any($3)
        and (w.workflow, w.version) in (select * from unnest($1::text[], $2::text::integer[]))
        and (w.refused is null or $4 = '""' or strpos(w.refused, $4) = 0)
    union all
    select w.id, w.priority, w.created_at, w.attributes, w.started_at
    from workflow_executions w
    where w.status in ('running', 'rolling_back') and w.owner = any(array(select id from workers where state <> 'live')) and w.crashes = 0
        and w.queue = any($3)
        and (w.workflow, w.version) in (select * from unnest($1::text[], $2::text::integer[]))
        and (w.refused is null or $4 = '""' or strpos(w.refused, $4) = 0)
) c
order by c.priority desc, c.created_at, c.id
limit $5;

-- name: claimable_suspects
-- The same of what may have killed its workers: running with a crash, or two of them.
select w.id, w.priority, w.created_at, w.attributes, w.started_at
from workflow_executions w
where w.crashes > 0 and w.status in ('pending', 'waiting', 'running', 'rolling_back')
    and case w.status
        when 'running' then w.owner = any(array(select id from workers where state <> 'live'))
        when 'rolling_back' then (w.crashes >= 2 and w.wake_at <= (select clock_timestamp()))
            or w.owner = any(array(select id from workers where state <> 'live'))
        when 'waiting' then w.crashes >= 2 and w.wake_at <= (select clock_timestamp())
        else w.crashes >= 2 and (w.wake_at is null or w.wake_at <= (select clock_timestamp()))
    end
    and w.queue = any($3::text[])
    and (w.workflow, w.version) in (select * from unnest($1::text[], $2::text::integer[]))
    and (w.refused is null or $4 = '""' or strpos(w.refused, $4) = 0)
order by w.priority desc, w.created_at, w.id
limit $5;

-- name: make_queues
-- A row for each limited queue, before its first claim.
insert into queues (name) select unnest($1::text[]) order by 1 on conflict (name) do nothing;

-- name: lock_queues
-- From here on no other claim of these queues comes between. Locked before the worker: nobody does it the other way.
select q.name from queues q where q.name = any($1::text[]) order by q.name for no key update;

-- name: running_places
-- What of a queue is in somebody's memory.
select w.id, w.attributes, w.started_at
from workflow_executions w
where w.owner is not null and w.status = 'running' and w.queue = $1;

-- name: recent_places
-- What of a queue was first claimed within so many microseconds, at most so many.
select w.id, w.attributes, w.started_at
from workflow_executions w
where w.queue = $1 and w.started_at > clock_timestamp() - $2::bigint * interval '1 microsecond'
limit $3;

-- name: claim_these
-- Takes over what was chosen under the lock of its queue, as far as it still may be taken.
with me as materialized (
    select from workers where id = $1 and epoch = $2 and state = 'live' for no key update
), chosen as materialized (
    select w.id, w.owner is not null as crashed, (
        select coalesce(max(e.seq), 0) from step_executions e where w.owner is not null and e.execution_id = w.id
    ) as seq
    from workflow_executions w
    where w.id = any($3::text[]) and exists (select from me)
        and case w.status
            when 'running' then w.owner = any(array(select id from workers where state <> 'live'))
            when 'rolling_back' then w.wake_at <= (select clock_timestamp())
                or w.owner = any(array(select id from workers where state <> 'live'))
            when 'waiting' then w.wake_at <= (select clock_timestamp())
            when 'pending' then w.wake_at is null or w.wake_at <= (select clock_timestamp())
            else false
        end
    order by w.priority desc, w.created_at, w.id
    for no key update of w skip locked
), taken as (
    update workflow_executions w
    set status = case when w.status = 'rolling_back' then w.status else 'running' end,
        owner = $1,
        fence = w.fence + 1,
        wake_at = null,
        crashes = case when not c.crashed then w.crashes when c.seq > w.crash_seq then 1 else w.crashes + 1 end,
        crash_seq = case when c.crashed then c.seq else w.crash_seq end,
        started_at = coalesce(w.started_at, clock_timestamp()),
        updated_at = clock_timestamp()
    from chosen c
    where w.id = c.id
    returning w.*
)
select * from taken order by priority desc, created_at, id;
