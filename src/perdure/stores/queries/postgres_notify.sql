-- Hints between processes on PostgreSQL. They may be lost: polling is the truth.

-- name: notify
-- Something may have changed. A transaction of its own that writes nothing: at its end it takes a lock of the whole
-- server, for which no commit of ours shall wait. $1: who tells, so that who tells need not listen to itself.
select pg_notify('perdure_' || k.tableoid, $1) is null from workers k limit 1;

-- name: channel
-- Where that is told: each schema's workers have a channel of their own. No row while there are none.
select 'perdure_' || k.tableoid as name from workers k limit 1;
