-- Who is there, on MariaDB and MySQL. A worker's lock is a named one of the whole server; its name has the database in
-- it. It says something on this server alone, since its last start: that is what `workers.presence` names, and what a
-- session was told as `here`. So after a restart, or on the server that took over from a failed one, a worker counts by
-- its lease until it holds its lock there. With Galera such locks are not to be had.

-- name: route
-- Who the session is to the server, and from where. A proxy in between has numbers of its own.
select connection_id(), host from information_schema.processlist where id = connection_id();

-- name: is_cluster
-- Does this server write to others before it answers?
show variables like 'wsrep_on';

-- name: here_mariadb
-- This start of this server. The two times are taken at one moment, so their difference stands, whatever clocks do.
select concat(@@hostname, ':', @@port, ':', cast(unix_timestamp() - variable_value as integer))
from information_schema.global_status
where variable_name = 'uptime';

-- name: here_mysql
-- The same.
select concat(@@hostname, ':', @@port, ':', cast(unix_timestamp() - variable_value as signed))
from performance_schema.global_status
where variable_name = 'uptime';

-- name: prepare_presence
-- The session stays, however long it is idle.
set session wait_timeout = 31536000;

-- name: take_presence
-- Waits for the worker's lock, and keeps it for as long as the session lasts. No row: it is not alive any more.
select get_lock(concat('perdure.', left(sha1(database()), 20), '.', k.id), %(seconds)s)
from workers k
where k.id = %(worker)s and k.epoch = %(epoch)s and k.state = 'live';

-- name: tell_presence
-- From now on the lock says something. In the session that has it.
update workers set presence = %(here)s where id = %(worker)s and epoch = %(epoch)s and state = 'live';

-- name: presence_ring
-- The live workers whose locks say something here.
select id from workers where state = 'live' and presence = %(here)s order by id;

-- name: free_presences
-- Those of the others whose locks are free.
select id from workers
where state = 'live' and id <> %(me)s and presence = %(here)s
    and is_free_lock(concat('perdure.', left(sha1(database()), 20), '.', id)) = 1
order by id;

-- name: await_presence
-- Waits until a worker's lock is free, and gives it back at once. 1: it was free.
select if(
    get_lock(concat('perdure.', left(sha1(database()), 20), '.', %(worker)s), %(seconds)s) = 1,
    release_lock(concat('perdure.', left(sha1(database()), 20), '.', %(worker)s)),
    0
);

-- name: glance
-- All that a worker looks for, a row for each live worker: is its lease over, where does it hold its lock, is the lock
-- free; and, the same in each, whether there is something to claim for these workflows, queues and this build, something
-- that may have killed its workers, something in the outbox, and when the next schedule is due.
select
    k.id,
    k.lease_until < utc_timestamp(6) as late,
    k.presence,
    coalesce(
        if(k.presence is null, 0, is_free_lock(concat('perdure.', left(sha1(database()), 20), '.', k.id))),
        0
    ) as free,
    exists (
        select 1 from workflow_executions w force index (workflow_executions_ready)
        where w.status = 'pending' and w.queue in %(queues)s and w.wake_at is null and w.crashes < 2
            and (w.workflow, w.version) in %(workflows)s
            and (w.refused is null or %(build)s = '""' or not if(json_valid(w.refused), json_contains(w.refused, %(build)s), false))
    )
    or exists (
        select 1 from workflow_executions w force index (workflow_executions_due)
        where w.status in ('pending', 'waiting', 'rolling_back') and w.wake_at <= utc_timestamp(6) and w.crashes < 2
            and w.queue in %(queues)s
            and (w.workflow, w.version) in %(workflows)s
            and (w.refused is null or %(build)s = '""' or not if(json_valid(w.refused), json_contains(w.refused, %(build)s), false))
    )
    or exists (
        select 1 from workers d
        straight_join workflow_executions w force index (workflow_executions_owned) on w.owner = d.id
        where d.state <> 'live'
            and w.status in ('running', 'rolling_back') and w.crashes = 0
            and w.queue in %(queues)s
            and (w.workflow, w.version) in %(workflows)s
            and (w.refused is null or %(build)s = '""' or not if(json_valid(w.refused), json_contains(w.refused, %(build)s), false))
    ) as claimable,
    exists (
        select 1 from workflow_executions w force index (workflow_executions_crashed)
        where w.crashes > 0 and w.status in ('pending', 'waiting', 'running', 'rolling_back')
            and case w.status
                when 'running' then w.owner in (select d.id from workers d where d.state <> 'live')
                when 'rolling_back' then (w.crashes >= 2 and w.wake_at <= utc_timestamp(6))
                    or coalesce(w.owner in (select d.id from workers d where d.state <> 'live'), false)
                when 'waiting' then w.crashes >= 2 and w.wake_at <= utc_timestamp(6)
                else w.crashes >= 2 and (w.wake_at is null or w.wake_at <= utc_timestamp(6))
            end
            and w.queue in %(queues)s
            and (w.workflow, w.version) in %(workflows)s
            and (w.refused is null or %(build)s = '""' or not if(json_valid(w.refused), json_contains(w.refused, %(build)s), false))
    ) as crashed,
    exists (select 1 from outbox o where o.refused is null) as outgoing,
    (select min(s.next_at) from schedules s where not s.paused) as tick_at
from workers k
where k.state = 'live'
order by k.id;
