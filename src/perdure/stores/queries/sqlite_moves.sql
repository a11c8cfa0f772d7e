-- What a move between databases reads and writes on SQLite (perdure.store.Movable). A table's columns are those that both
-- sides have: `{columns}` and `{marks}` stand for them, by the names that this database's own catalog gives. What belongs
-- to an execution comes with `of_execution`; what belongs to none, with ''.

-- name: ids
-- Executions by id, behind one.
select id from workflow_executions where id > ? order by id limit ?;

-- name: taken_ids
-- Which of these are there.
select id from workflow_executions where id in (select value from json_each(?1));

-- name: make_moved_away
-- Only a database that was moved away has this table: it says where to.
create table if not exists moved_away (
    target text not null primary key
);

-- name: put_target
-- There.
insert into moved_away (target) values (?);

-- name: forget_targets
-- Nowhere.
delete from moved_away;

-- name: mark_moved
-- From now on no library opens this database, older ones because of the number.
insert into schema_versions (version, applied_at, oldest_writer) values (1000000000, ?, 1000000000)
on conflict (version) do nothing;

-- name: unmark_moved
-- It is in use again.
delete from schema_versions where version = 1000000000;

-- name: is_moved
-- Does it bear the mark?
select exists (select 1 from schema_versions where version = 1000000000);

-- name: moved_to
-- Where its executions went.
select target from moved_away;

-- name: pack_workflow_executions
-- Its row.
select t.id as of_execution, t.*
from workflow_executions t
where t.id in (select value from json_each(?1))
order by t.id;

-- name: pack_step_executions
-- Its journal.
select t.execution_id as of_execution, t.*
from step_executions t
where t.execution_id in (select value from json_each(?1))
order by t.execution_id, t.seq;

-- name: pack_state_snapshots
-- Its states.
select t.execution_id as of_execution, t.*
from state_snapshots t
where t.execution_id in (select value from json_each(?1))
order by t.execution_id, t.seq, t.branch;

-- name: pack_approval_requests
-- What it asks.
select t.execution_id as of_execution, t.*
from approval_requests t
where t.execution_id in (select value from json_each(?1))
order by t.execution_id, t.id;

-- name: pack_approval_decisions
-- The voices behind decisions.
select r.execution_id as of_execution, t.*
from approval_decisions t join approval_requests r on r.id = t.request_id
where r.execution_id in (select value from json_each(?1))
order by r.execution_id, t.request_id, t.ordinal;

-- name: pack_rollback_actions
-- What undoes it.
select t.execution_id as of_execution, t.*
from rollback_actions t
where t.execution_id in (select value from json_each(?1))
order by t.execution_id, t.generation, t.seq;

-- name: pack_audit_events
-- What was done to it.
select t.execution_id as of_execution, t.*
from audit_events t
where t.execution_id in (select value from json_each(?1))
order by t.execution_id, t.ordinal;

-- name: pack_messages
-- What was sent to it.
select t.execution_id as of_execution, t.*
from messages t
where t.execution_id in (select value from json_each(?1))
order by t.execution_id, t.id;

-- name: pack_payload_chunks
-- Its large values.
select t.execution_id as of_execution, t.*
from payload_chunks t
where t.execution_id in (select value from json_each(?1))
order by t.execution_id, t.digest;

-- name: pack_workflow_definitions
-- What workers registered.
select '' as of_execution, t.* from workflow_definitions t order by name, version;

-- name: pack_schedules
-- What is started by the clock.
select '' as of_execution, t.* from schedules t order by name;

-- name: unpack_workflow_executions
-- As they were.
insert into workflow_executions ({columns}) values ({marks});

-- name: unpack_step_executions
-- As they were.
insert into step_executions ({columns}) values ({marks});

-- name: unpack_state_snapshots
-- As they were.
insert into state_snapshots ({columns}) values ({marks});

-- name: unpack_approval_requests
-- As they were.
insert into approval_requests ({columns}) values ({marks});

-- name: unpack_approval_decisions
-- As they were.
insert into approval_decisions ({columns}) values ({marks});

-- name: unpack_rollback_actions
-- As they were.
insert into rollback_actions ({columns}) values ({marks});

-- name: unpack_audit_events
-- As they were.
insert into audit_events ({columns}) values ({marks});

-- name: unpack_messages
-- As they were.
insert into messages ({columns}) values ({marks});

-- name: unpack_payload_chunks
-- As they were.
insert into payload_chunks ({columns}) values ({marks});

-- name: unpack_workflow_definitions
-- Unless one of this name is there.
insert into workflow_definitions ({columns}) values ({marks})
on conflict do nothing;

-- name: unpack_schedules
-- Unless one of this name is there.
insert into schedules ({columns}) values ({marks})
on conflict do nothing;
