-- Who is there, on PostgreSQL. A worker's lock is an advisory lock of two numbers: the table of the workers and the
-- worker. It says something on this server alone, since its last start: that is what `workers.presence` names. So after
-- a restart, or on the server that took over from a failed one, a worker counts by its lease until it holds its lock
-- there. `is null` of what gives no value is how a select list waits for a lock and yields something.

-- name: route
-- Who the session is to the server. A pooler in between gives other numbers, or a made up one, to its clients.
select pg_backend_pid() as pid, inet_client_port() as port;

-- name: prepare_presence
-- The session stays, however long it is idle, and who is waited for is not waited for by a dead one.
select set_config(
    name,
    case name when 'client_connection_check_interval' then '1s' when 'lock_timeout' then $1 else '0' end,
    false
)
from pg_settings
where name in ('client_connection_check_interval', 'lock_timeout', 'statement_timeout', 'idle_session_timeout');

-- name: take_presence
-- Waits for the worker's lock, and keeps it for as long as the session lasts. No row: it is not alive any more.
select pg_advisory_lock(k.tableoid::integer, k.id::integer) is null as taken
from workers k
where k.id = $1 and k.epoch = $2 and k.state = 'live';

-- name: tell_presence
-- From now on the lock says something. In the session that has it.
update workers set presence = (extract(epoch from pg_postmaster_start_time()) * 1000000)::bigint::text
where id = $1 and epoch = $2 and state = 'live'
returning true;

-- name: presence_ring
-- The live workers whose locks say something here.
select id from workers
where state = 'live' and presence = (extract(epoch from pg_postmaster_start_time()) * 1000000)::bigint::text
order by id;

-- name: free_presences
-- Those of the others whose locks are free. Each of these is held until this statement ends.
select id from workers
where state = 'live' and id <> $1
    and case
        when presence = (extract(epoch from pg_postmaster_start_time()) * 1000000)::bigint::text
        then pg_try_advisory_xact_lock_shared(tableoid::integer, id::integer)
        else false
    end
order by id;

-- name: await_presence
-- Waits until a worker's lock is free. An error after `lock_timeout`.
select pg_advisory_xact_lock_shared(k.tableoid::integer, k.id::integer) is null from workers k where k.id = $1;

-- name: glance
-- All that a worker looks for, in one row: whose lease is over, whose locks are free, who holds one, whether there is
-- something to claim for these workflows ($2, $3), queues and this build, something that may have killed its workers,
-- something in the outbox, and when the next schedule is due. Nothing is locked but what is free of locks, and that only until it ends.
select
    array(select id::text from workers where state = 'live' and id <> $1 and lease_until < clock_timestamp()) as late,
    array(
        select id::text from workers
        where state = 'live' and id <> $1
            and case
                when presence = (extract(epoch from pg_postmaster_start_time()) * 1000000)::bigint::text
                then pg_try_advisory_xact_lock_shared(tableoid::integer, id::integer)
                else false
            end
    ) as free,
    array(
        select id::text from workers
        where state = 'live' and presence = (extract(epoch from pg_postmaster_start_time()) * 1000000)::bigint::text
    ) as ring,
    exists (
        select from unnest($4::text[]) as q (queue)
        cross join lateral (
            select from workflow_executions w
            where w.status = 'pending' and w.wake_at is null and w.queue = q.queue and w.crashes < 2
                and (w.workflow, w.version) in (select * from unnest($2::text[], $3::text::integer[]))
                and (w.refused is null or $5 = '""' or strpos(w.refused, $5) = 0)
            order by w.priority desc, w.created_at, w.id
            limit 1
        ) w
    )
    or exists (
        select from workflow_executions w
        where w.status in ('pending', 'waiting', 'rolling_back') and w.wake_at <= (select clock_timestamp()) and w.crashes < 2
            and w.queue = any($4)
            and (w.workflow, w.version) in (select * from unnest($2::text[], $3::text::integer[]))
            and (w.refused is null or $5 = '""' or strpos(w.refused, $5) = 0)
    )
    or exists (
        select from workflow_executions w
        where w.status in ('running', 'rolling_back') and w.owner = any(array(select id from workers where state <> 'live'))
            and w.crashes = 0
            and w.queue = any($4)
            and (w.workflow, w.version) in (select * from unnest($2::text[], $3::text::integer[]))
            and (w.refused is null or $5 = '""' or strpos(w.refused, $5) = 0)
    ) as claimable,
    exists (
        select from workflow_executions w
        where w.crashes > 0 and w.status in ('pending', 'waiting', 'running', 'rolling_back')
            and case w.status
                when 'running' then w.owner = any(array(select id from workers where state <> 'live'))
                when 'rolling_back' then (w.crashes >= 2 and w.wake_at <= (select clock_timestamp()))
                    or w.owner = any(array(select id from workers where state <> 'live'))
                when 'waiting' then w.crashes >= 2 and w.wake_at <= (select clock_timestamp())
                else w.crashes >= 2 and (w.wake_at is null or w.wake_at <= (select clock_timestamp()))
            end
            and w.queue = any($4)
            and (w.workflow, w.version) in (select * from unnest($2::text[], $3::text::integer[]))
            and (w.refused is null or $5 = '""' or strpos(w.refused, $5) = 0)
    ) as crashed,
    exists (select from outbox where refused is null) as outgoing,
    (select min(next_at) from schedules where not paused) as tick_at;
