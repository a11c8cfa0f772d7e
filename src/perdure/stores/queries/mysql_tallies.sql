-- How many executions have ended, on MariaDB and MySQL (stores/mysql_tallies.py). To be summed up: each statement that
-- changes what has ended is followed, or preceded, by one of these, in the same transaction.

-- name: tally
-- Those of these that have ended now are counted.
insert into execution_tallies (workflow, version, queue, status, number)
select w.workflow, w.version, w.queue, w.status, count(*)
from workflow_executions w force index (primary)
where w.id in %(ids)s
    and w.status in ('completed', 'failed', 'cancelled', 'rolled_back', 'rollback_failed')
group by w.workflow, w.version, w.queue, w.status;

-- name: tally_new
-- The same of those that were made just now.
insert into execution_tallies (workflow, version, queue, status, number)
select w.workflow, w.version, w.queue, w.status, count(*)
from workflow_executions w force index (primary)
where w.id in %(ids)s
    and w.token = %(token)s
    and w.status in ('completed', 'failed', 'cancelled', 'rolled_back', 'rollback_failed')
group by w.workflow, w.version, w.queue, w.status;

-- name: untally
-- Those of these that have ended are not counted any more: they begin anew, or are removed.
insert into execution_tallies (workflow, version, queue, status, number)
select w.workflow, w.version, w.queue, w.status, -count(*)
from workflow_executions w force index (primary)
where w.id in %(ids)s
    and w.status in ('completed', 'failed', 'cancelled', 'rolled_back', 'rollback_failed')
group by w.workflow, w.version, w.queue, w.status;

-- name: foldable
-- Rows that nobody is adding just now.
select t.id, t.workflow, t.version, t.queue, t.status, t.number
from execution_tallies t
order by t.id
limit %(limit)s
for update skip locked;

-- name: remove_folded
-- They are in another one.
delete from execution_tallies where id in %(ids)s;

-- name: add_folded
-- That one.
insert into execution_tallies (workflow, version, queue, status, number) values %(rows)s;

-- name: uncounted
-- Workers whose library counts nothing.
select k.id, k.state from workers k where not k.counts;

-- name: lock_uncounted
-- They again, if nobody has made up for them.
select k.id from workers k where k.id in %(ids)s and k.state <> 'live' and not k.counts order by k.id for update;

-- name: counted
-- What they ended is counted now.
update workers set counts = true where id in %(ids)s;

-- name: recount
-- Adds what is missing. One statement, so that it sees executions and what is counted of them at one moment.
insert into execution_tallies (workflow, version, queue, status, number)
select c.workflow, c.version, c.queue, c.status, sum(c.number)
from (
    select w.workflow, w.version, w.queue, w.status, count(*) as number
    from workflow_executions w
    where w.status in ('completed', 'failed', 'cancelled', 'rolled_back', 'rollback_failed')
    group by w.workflow, w.version, w.queue, w.status
    union all
    select t.workflow, t.version, t.queue, t.status, -sum(t.number)
    from execution_tallies t
    group by t.workflow, t.version, t.queue, t.status
) c
group by c.workflow, c.version, c.queue, c.status
having sum(c.number) <> 0;

-- name: how_many_ended
-- As they are kept counted, and whether that is to be believed.
select coalesce(sum(t.number), 0) as number, (select count(*) from workers k where not k.counts) as uncounted
from execution_tallies t;

-- name: miscounted
-- How many kinds of executions are counted wrongly.
select count(*)
from (
    select 1
    from (
        select w.workflow, w.version, w.queue, w.status, count(*) as number
        from workflow_executions w
        where w.status in ('completed', 'failed', 'cancelled', 'rolled_back', 'rollback_failed')
        group by w.workflow, w.version, w.queue, w.status
        union all
        select t.workflow, t.version, t.queue, t.status, -sum(t.number)
        from execution_tallies t
        group by t.workflow, t.version, t.queue, t.status
    ) c
    group by c.workflow, c.version, c.queue, c.status
    having sum(c.number) <> 0
) d;
