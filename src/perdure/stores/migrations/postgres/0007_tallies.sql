-- How many executions have ended is kept, not counted: there may be millions. A trigger counts, so that it does not matter
-- who writes. It adds a row for what a statement changed, and never touches one: commits would wait for one another. Now and
-- then the rows that nobody is adding are folded into one for each workflow, version, queue and status.
-- oldest writer: 1

create table execution_tallies (
    id bigint generated always as identity primary key,
    workflow text collate "C" not null,
    version integer not null,
    queue text collate "C" not null,
    status text collate "C" not null,
    number bigint not null
);

create function perdure_fold_tallies() returns void language sql as $$
    with folded as (
        delete from execution_tallies
        where id in (select t.id from execution_tallies t for update skip locked)
        returning workflow, version, queue, status, number
    )
    insert into execution_tallies (workflow, version, queue, status, number)
    select f.workflow, f.version, f.queue, f.status, sum(f.number)
    from folded f
    group by f.workflow, f.version, f.queue, f.status
    having sum(f.number) <> 0;
$$;

-- As the tables' owner: whoever may write executions need not be able to write here.
create function perdure_tally() returns trigger language plpgsql security definer set search_path from current as $$
declare
    full_up boolean;
begin
    if tg_op = 'TRUNCATE' then
        delete from execution_tallies;
        return null;
    elsif tg_op = 'INSERT' then
        with added as (
            insert into execution_tallies (workflow, version, queue, status, number)
            select c.workflow, c.version, c.queue, c.status, count(*)
            from new_rows c
            where c.status in ('completed', 'failed', 'cancelled', 'rolled_back', 'rollback_failed')
            group by c.workflow, c.version, c.queue, c.status
            returning id
        )
        select bool_or(a.id % 500 = 0) into full_up from added a;
    elsif tg_op = 'DELETE' then
        with added as (
            insert into execution_tallies (workflow, version, queue, status, number)
            select c.workflow, c.version, c.queue, c.status, -count(*)
            from old_rows c
            where c.status in ('completed', 'failed', 'cancelled', 'rolled_back', 'rollback_failed')
            group by c.workflow, c.version, c.queue, c.status
            returning id
        )
        select bool_or(a.id % 500 = 0) into full_up from added a;
    else
        with added as (
            insert into execution_tallies (workflow, version, queue, status, number)
            select c.workflow, c.version, c.queue, c.status, sum(c.number)
            from (
                select n.workflow, n.version, n.queue, n.status, 1 as number from new_rows n
                union all
                select o.workflow, o.version, o.queue, o.status, -1 from old_rows o
            ) c
            where c.status in ('completed', 'failed', 'cancelled', 'rolled_back', 'rollback_failed')
            group by c.workflow, c.version, c.queue, c.status
            having sum(c.number) <> 0
            returning id
        )
        select bool_or(a.id % 500 = 0) into full_up from added a;
    end if;
    if full_up then
        perform perdure_fold_tallies();
    end if;
    return null;
end
$$;

create trigger perdure_tally_insert after insert on workflow_executions
    referencing new table as new_rows for each statement execute function perdure_tally();
create trigger perdure_tally_update after update on workflow_executions
    referencing old table as old_rows new table as new_rows for each statement execute function perdure_tally();
create trigger perdure_tally_delete after delete on workflow_executions
    referencing old table as old_rows for each statement execute function perdure_tally();
create trigger perdure_tally_truncate after truncate on workflow_executions
    for each statement execute function perdure_tally();

insert into execution_tallies (workflow, version, queue, status, number)
select w.workflow, w.version, w.queue, w.status, count(*)
from workflow_executions w
where w.status in ('completed', 'failed', 'cancelled', 'rolled_back', 'rollback_failed')
group by w.workflow, w.version, w.queue, w.status;

-- What failed or waits, of one workflow, in its order. And what ended before it was made, by a clock that went back.
create index workflow_executions_seldom_of_workflow on workflow_executions
    ((workflow || ''), (status || ''), created_at, id)
    where (status || '') not in ('running', 'completed');
create index workflow_executions_ended_early on workflow_executions (ended_at) where ended_at < created_at;
