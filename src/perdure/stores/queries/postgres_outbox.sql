-- The outbox on PostgreSQL: what came in somebody's own transactions; and transactions of steps. It is folded in one transaction of several
-- statements, which holds the locks of the rows that it delivers, and locks executions by id.

-- name: outbox_waits
-- What is to be delivered next.
select id from outbox where refused is null order by id limit $1;

-- name: outbox_next
-- The same in full, or one row of it, without those that another worker delivers just now.
select id, kind, execution_id, content, refused, created_at from outbox
where refused is null and ($2::bigint is null or id = $2)
order by id limit $1
for update skip locked;

-- name: outbox_behind
-- Of these executions, those of which an earlier row is held by another worker.
select distinct execution_id from outbox
where refused is null and execution_id = any($1::text[]) and id < $2 and id <> all($3::bigint[]);

-- name: outbox_starts
-- Executions appear, unless their ids are taken. Gives those that are new.
insert into workflow_executions (
    id, workflow, version, status, queue, priority, owner, fence, nudges, generation, input, output, error,
    encoding, checksum, wish, wish_by, wish_reason, reason, wake_at, parent_id, parent_key, started_by, attributes,
    build, crashes, crash_seq, token, created_at, updated_at, ended_at, started_at, base_seq, refused
)
select
    c.id, c.workflow, c.version, c.status, c.queue, c.priority, c.owner, c.fence, c.nudges, c.generation, c.input,
    c.output, c.error, c.encoding, c.checksum, c.wish, c.wish_by, c.wish_reason, c.reason,
    perdure_time(c.wake_at),
    c.parent_id, c.parent_key, c.started_by, c.attributes, c.build, c.crashes, c.crash_seq, c.token,
    perdure_time(c.created_at),
    perdure_time(c.updated_at),
    perdure_time(c.ended_at),
    perdure_time(c.started_at),
    c.base_seq, c.refused
from json_to_recordset($1::text::json) as c (
    id text, workflow text, version integer, status text, queue text, priority integer, owner bigint, fence bigint,
    nudges bigint, generation integer, input text, output text, error text, encoding text, checksum bigint,
    wish text, wish_by text, wish_reason text, reason text, wake_at bigint, parent_id text, parent_key text,
    started_by text, attributes text, build text, crashes integer, crash_seq bigint, token text, created_at bigint,
    updated_at bigint, ended_at bigint, started_at bigint, base_seq bigint, refused text
)
order by c.id collate "C"
on conflict (id) do nothing
returning id;

-- name: outbox_delivered
-- It is done.
delete from outbox where id = any($1::bigint[]);

-- name: outbox_refused
-- It cannot be done: it stays for a person to see.
update outbox set refused = $2 where id = $1;

-- name: outbox_all
-- All that is not delivered, what was refused first.
select id, kind, execution_id, content, refused, created_at from outbox order by refused is null, id limit $1;

-- name: outbox_dismissed
-- Somebody has seen why these were refused.
delete from outbox where refused is not null and id = any($1::bigint[]) returning id;

-- name: limit_transaction
-- The server ends the transaction of a body that has stopped, and with it the locks.
select set_config('idle_in_transaction_session_timeout', $1, true);
