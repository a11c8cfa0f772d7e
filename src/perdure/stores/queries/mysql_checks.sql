-- What `perdure db check` and `perdure db grant` say to MariaDB and MySQL.

-- name: check_server
-- What this server is, who we are, and where new tables would be made.
select version() as version, current_user() as role, database() as place, @@global.read_only as read_only;

-- name: check_tls
-- The cipher of this connection; empty without TLS.
show session status like 'Ssl_%%';

-- name: check_write
-- A worker that is never seen: in a transaction that is rolled back.
insert into workers (epoch, state, host, pid, process, build, workflows, queues, started_at, lease_until)
values (1, 'gone', '', 0, 'perdure db check', '', '[]', '[]', utc_timestamp(6), utc_timestamp(6));

-- name: check_tally
-- An execution of a workflow that nobody has, counted: in the same transaction.
insert into execution_tallies (workflow, version, queue, status, number) values ('', 0, '', 'completed', 1);

-- name: check_read
-- It was written.
select process from workers where process = 'perdure db check' and state = 'gone';

-- name: check_now
-- The server's time.
select utc_timestamp(6);

-- name: check_live
-- How many workers are alive.
select count(*) from workers where state = 'live' and lease_until > utc_timestamp(6);
