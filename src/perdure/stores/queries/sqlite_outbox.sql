-- The outbox on SQLite: what came in somebody's own transactions, delivered under the one lock.

-- name: outbox_waits
-- What is to be delivered next.
select id from outbox where refused is null order by id limit ?;

-- name: outbox_next
-- The same in full, or one row of it.
select id, kind, execution_id, content, refused, created_at from outbox
where refused is null and (:only is null or id = :only)
order by id limit :limit;

-- name: outbox_all
-- All that is not delivered, what was refused first.
select id, kind, execution_id, content, refused, created_at from outbox order by refused is null, id limit ?;

-- name: outbox_delivered
-- It is done.
delete from outbox where id = ?;

-- name: outbox_refused
-- It cannot be done: it stays for a person to see.
update outbox set refused = :refused where id = :id;

-- name: outbox_dismissed
-- Somebody has seen why these were refused.
delete from outbox where refused is not null and id in (select value from json_each(?));

-- name: prune_refusals
-- What was refused about executions that are removed.
delete from outbox where refused is not null and execution_id in (select value from json_each(?));
