-- What `perdure db check` and `perdure db grant` say to PostgreSQL.

-- name: check_server
-- What this server is, who we are, and how we are connected.
select
    current_setting('server_version') as version,
    current_user::text as role,
    current_schema() as place,
    pg_is_in_recovery() as standby,
    current_setting('transaction_read_only') = 'on' as read_only,
    host(inet_client_addr()) as client,
    s.ssl as tls,
    s.version as tls_version
from (select pg_backend_pid() as pid) me
left join pg_stat_ssl s on s.pid = me.pid;

-- name: check_rights
-- What this user, or another one, may not do to these tables ($1) although it needs to ($2, one each).
select t.name as name, t.verb as verb
from unnest($1::text[], $2::text[]) as t (name, verb)
join pg_class c on c.relname = t.name
    and c.relnamespace = (select n.oid from pg_namespace n where n.nspname = current_schema())
where not has_table_privilege(c.oid, t.verb)
order by t.name, t.verb;

-- name: check_open
-- Our tables ($1) that a role which anybody may take (Supabase's `anon`) can read or change.
select c.relname::text as name
from pg_class c
join pg_namespace n on n.oid = c.relnamespace and n.nspname = current_schema()
join pg_roles r on r.rolname = 'anon'
where c.relname = any($1::text[]::name[])
    and not c.relrowsecurity
    and has_schema_privilege(r.oid, n.oid, 'usage')
    and has_table_privilege(r.oid, c.oid, 'select, insert, update, delete')
order by 1;

-- name: check_write
-- A worker that is never seen: in a transaction that is rolled back.
insert into workers (epoch, state, host, pid, process, build, workflows, queues, started_at, lease_until)
values (1, 'gone', '', 0, 'perdure db check', '', '[]', '[]', clock_timestamp(), clock_timestamp())
returning id;

-- name: check_read
-- It was written.
select process from workers where id = $1;

-- name: check_now
-- The server's time, in microseconds since 1970.
select (extract(epoch from clock_timestamp()) * 1000000)::bigint;

-- name: check_live
-- How many workers are alive.
select count(*) from workers where state = 'live' and lease_until > clock_timestamp();
