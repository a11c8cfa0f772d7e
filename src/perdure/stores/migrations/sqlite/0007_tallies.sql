-- How many executions have ended is kept, not counted: there may be millions. Triggers count, so that it does not matter who
-- writes. Attributes are found by an index: what it gives is compared in full, as it holds beginnings.
-- oldest writer: 1

create table execution_tallies (
    id integer primary key,
    workflow text not null,
    version integer not null,
    queue text not null,
    status text not null,
    number integer not null,
    unique (workflow, version, queue, status)
);

insert into execution_tallies (workflow, version, queue, status, number)
select workflow, version, queue, status, count(*)
from workflow_executions
where status in ('completed', 'failed', 'cancelled', 'rolled_back', 'rollback_failed')
group by workflow, version, queue, status;

-- What failed or waits, of one workflow, in its order. And what ended before it was made, by a clock that went back.
create index workflow_executions_seldom_of_workflow on workflow_executions
    ((workflow || ''), (status || ''), created_at, id)
    where (status || '') not in ('running', 'completed');
create index workflow_executions_ended_early on workflow_executions (ended_at) where ended_at < created_at;

create table execution_attributes (
    name text not null,
    value text not null,
    execution_id text not null,
    primary key (name, value, execution_id)
) without rowid;

create index execution_attributes_of_execution on execution_attributes (execution_id);

-- One trigger for both where it can be, as each costs those too whom it does not concern. What has not ended is in no tally,
-- so that taking it out of its own finds none.
create trigger workflow_executions_added after insert on workflow_executions
when new.attributes is not null
    or new.status = 'completed' or new.status = 'failed' or new.status = 'cancelled'
    or new.status = 'rolled_back' or new.status = 'rollback_failed'
begin
    insert into execution_tallies (workflow, version, queue, status, number)
        select new.workflow, new.version, new.queue, new.status, 1
        where new.status = 'completed' or new.status = 'failed' or new.status = 'cancelled'
            or new.status = 'rolled_back' or new.status = 'rollback_failed'
        on conflict (workflow, version, queue, status) do update set number = number + 1; insert or ignore
    into execution_attributes
        select a.key, coalesce(substr(cast(a.value as text), 1, 200), ''), new.id
        from json_each(case when json_valid(new.attributes) then new.attributes else '{}' end) as a; end;

create trigger workflow_executions_changed after update of workflow, version, queue, status on workflow_executions
when new.status = 'completed' or new.status = 'failed' or new.status = 'cancelled'
    or new.status = 'rolled_back' or new.status = 'rollback_failed'
    or old.status = 'completed' or old.status = 'failed' or old.status = 'cancelled'
    or old.status = 'rolled_back' or old.status = 'rollback_failed'
begin
    insert into execution_tallies (workflow, version, queue, status, number)
        select new.workflow, new.version, new.queue, new.status, 1
        where new.status = 'completed' or new.status = 'failed' or new.status = 'cancelled'
            or new.status = 'rolled_back' or new.status = 'rollback_failed'
        on conflict (workflow, version, queue, status) do update set number = number + 1; update execution_tallies
    set number = number - 1
        where workflow = old.workflow and version = old.version and queue = old.queue
            and status = old.status; end;

create trigger workflow_executions_named after update of attributes on workflow_executions
when new.attributes is not old.attributes
begin
    delete from execution_attributes where execution_id = old.id; insert or ignore
    into execution_attributes
        select a.key, coalesce(substr(cast(a.value as text), 1, 200), ''), new.id
        from json_each(case when json_valid(new.attributes) then new.attributes else '{}' end) as a; end;

create trigger workflow_executions_removed after delete on workflow_executions
when old.attributes is not null
    or old.status = 'completed' or old.status = 'failed' or old.status = 'cancelled'
    or old.status = 'rolled_back' or old.status = 'rollback_failed'
begin
    update execution_tallies set number = number - 1
        where workflow = old.workflow and version = old.version and queue = old.queue
            and status = old.status; delete from execution_attributes
        where old.attributes is not null and execution_id = old.id; end;

insert or ignore into execution_attributes
select a.key, coalesce(substr(cast(a.value as text), 1, 200), ''), w.id
from workflow_executions w, json_each(case when json_valid(w.attributes) then w.attributes else '{}' end) as a
where w.attributes is not null;
