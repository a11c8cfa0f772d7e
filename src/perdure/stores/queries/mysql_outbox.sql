-- The outbox on MariaDB and MySQL: what came in somebody's own transactions. It is folded in one transaction, which holds
-- the locks of the rows that it delivers, and locks executions by id.

-- name: outbox_waits
-- What is to be delivered next.
select id from outbox where refused is null order by id limit %(limit)s;

-- name: outbox_next
-- The same in full, without those that another worker delivers just now.
select id, kind, execution_id, content, refused, created_at from outbox force index (primary)
where refused is null order by id limit %(limit)s
for update skip locked;

-- name: outbox_one
-- One row, if nobody delivers it just now.
select id, kind, execution_id, content, refused, created_at from outbox
where id = %(id)s and refused is null
for update skip locked;

-- name: outbox_behind
-- Of these executions, those of which an earlier row is held by another worker.
select distinct execution_id from outbox
where refused is null and execution_id in %(executions)s and id < %(last)s and id not in %(ids)s;

-- name: outbox_delivered
-- It is done.
delete from outbox where id in %(ids)s;

-- name: outbox_refused
-- It cannot be done: it stays for a person to see.
update outbox set refused = %(refused)s where id = %(id)s;

-- name: outbox_all
-- All that is not delivered, what was refused first.
select id, kind, execution_id, content, refused, created_at from outbox order by refused is null, id limit %(limit)s;

-- name: outbox_dismissed
-- Somebody has seen why these were refused.
delete from outbox where refused is not null and id in %(ids)s;

-- name: limit_transaction
-- The server ends the transaction of a body that has stopped, and with it the locks. MariaDB only.
set session idle_transaction_timeout = %(seconds)s;
