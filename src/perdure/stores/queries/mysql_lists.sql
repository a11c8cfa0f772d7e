-- Lists and counts of executions on MariaDB and MySQL. A statement has only the conditions that a query asks for, so that
-- each finds its index (stores/conditions.py). Where they let more through than was asked, stores/mysql_reads.py looks.

-- name: list_newest
-- A page of executions, the newest first.
select w.*
from workflow_executions w
where true
    {conditions}
order by w.created_at desc, w.id desc
limit %(limit)s;

-- name: list_oldest
-- A page of executions, the oldest first.
select w.*
from workflow_executions w
where true
    {conditions}
order by w.created_at, w.id
limit %(limit)s;

-- name: list_ended_newest
-- The same by the time of their end: the oldest by age may all be young by it.
select w.*
from workflow_executions w force index (workflow_executions_ended)
where true
    {conditions}
order by w.created_at desc, w.id desc
limit %(limit)s;

-- name: list_ended_oldest
-- The same, the oldest first.
select w.*
from workflow_executions w force index (workflow_executions_ended)
where true
    {conditions}
order by w.created_at, w.id
limit %(limit)s;

-- name: behind_newest
-- So many executions on, the newest first: where a page ends that looks at no more.
select w.created_at, w.id
from workflow_executions w
where true
    {conditions}
order by w.created_at desc, w.id desc
limit 1 offset %(steps)s;

-- name: behind_oldest
-- The same, the oldest first.
select w.created_at, w.id
from workflow_executions w
where true
    {conditions}
order by w.created_at, w.id
limit 1 offset %(steps)s;

-- name: many_prefix
-- How many ids begin so, up to so many.
select count(*)
from (
    select 1
    from workflow_executions w
    where true
        {conditions}
    limit %(most)s
) c;

-- name: many_ended_before
-- How many ended before then, up to so many.
select count(*) from (select 1 from workflow_executions w where w.ended_at < %(ended_before)s limit %(most)s) c;

-- name: count_tallied
-- How many executions there are, by status: what has ended is kept counted, of the others so many are looked at. A row
-- without a status: there are workers who count nothing.
select t.status, sum(t.number) as number, 0 as looked
from execution_tallies t
where t.status in ('completed', 'failed', 'cancelled', 'rolled_back', 'rollback_failed')
    {conditions}
group by t.status
having sum(t.number) > 0
union all
select c.status, count(*), count(*)
from (
    select w.status
    from workflow_executions w force index (workflow_executions_of_status)
    where w.status in ('pending', 'waiting', 'paused', 'rolling_back', 'blocked')
        {conditions}
    limit %(most)s
) c
group by c.status
union all
select c.status, count(*), count(*)
from (
    select w.status
    from workflow_executions w force index (workflow_executions_of_status)
    where w.status = 'running'
        {conditions}
    limit %(most)s
) c
group by c.status
union all
select '', count(*), 0 from workers k where not k.counts having count(*) > 0;

-- name: count_first
-- How many of the executions that an index gives match, by status: of so many of them.
select c.status, sum(c.fits) as number, count(*) as looked
from (
    select
        w.status,
        case when true
            {compared}
        then 1 else 0 end as fits
    from workflow_executions w
    where true
        {conditions}
    limit %(most)s
) c
group by c.status;

-- name: count_newest
-- The same of the newest.
select c.status, sum(c.fits) as number, count(*) as looked
from (
    select
        w.status,
        case when true
            {compared}
        then 1 else 0 end as fits
    from workflow_executions w
    where true
        {conditions}
    order by w.created_at desc, w.id desc
    limit %(most)s
) c
group by c.status;

-- name: count_by_age
-- How many there are of some time, by status.
select w.status, count(*)
from workflow_executions w force index (workflow_executions_of_status)
where w.status in (
        'pending', 'running', 'waiting', 'paused', 'completed', 'failed', 'cancelled', 'rolling_back', 'rolled_back',
        'rollback_failed', 'blocked'
    )
    {conditions}
group by w.status;

-- name: count_executions
-- How many executions match, by status.
select w.status, count(*) as number
from workflow_executions w
where true
    {conditions}
group by w.status;

-- name: looked_at
-- How many an index gives, up to so many.
select count(*)
from (
    select 1
    from workflow_executions w
    where true
        {conditions}
    limit %(most)s
) c;

-- name: candidates_first
-- As `count_first`: what may match, with all that has to be compared by the caller.
select c.id, c.status, c.workflow, c.reason, c.started_by, c.attributes
from (
    select
        w.id, w.status, w.workflow, w.reason, w.started_by, w.attributes,
        case when true
            {compared}
        then 1 else 0 end as fits
    from workflow_executions w
    where true
        {conditions}
    limit %(most)s
) c
where c.fits = 1;

-- name: candidates_newest
-- As `count_newest`.
select c.id, c.status, c.workflow, c.reason, c.started_by, c.attributes
from (
    select
        w.id, w.status, w.workflow, w.reason, w.started_by, w.attributes,
        case when true
            {compared}
        then 1 else 0 end as fits
    from workflow_executions w
    where true
        {conditions}
    order by w.created_at desc, w.id desc
    limit %(most)s
) c
where c.fits = 1;

-- name: where_older
-- Behind a place, the newest first.
w.created_at <= %(at)s and (w.created_at < %(at)s or w.id < %(after)s);

-- name: where_newer
-- Behind a place, the oldest first.
w.created_at >= %(at)s and (w.created_at > %(at)s or w.id > %(after)s);

-- name: where_to_older
-- No further than a place, the newest first.
w.created_at >= %(end_at)s and (w.created_at > %(end_at)s or w.id >= %(end_id)s);

-- name: where_to_newer
-- No further than a place, the oldest first.
w.created_at <= %(end_at)s and (w.created_at < %(end_at)s or w.id <= %(end_id)s);

-- name: where_status
-- In one of these statuses.
w.status in %(status)s;

-- name: where_one_status
-- In this status.
w.status = %(one_status)s;

-- name: where_seldom
-- What follows of some statuses, and what an index holds.
w.status not in ('running', 'completed');

-- name: where_owned
-- What follows of one status.
w.owner is not null;

-- name: where_workflow
-- Of this workflow.
w.workflow = %(workflow)s;

-- name: where_version
-- Of this version of its workflow.
w.version = %(version)s;

-- name: where_parent
-- A child of this one.
w.parent_id = %(parent)s;

-- name: where_by
-- Started by this one.
w.started_by = %(by)s;

-- name: where_prefix
-- Its id begins so.
w.id >= %(prefix)s;

-- name: where_wide_prefix
-- The same for what most ids begin with.
w.id >= %(prefix)s;

-- name: where_prefix_end
-- And not with what comes behind that.
w.id < %(prefix_end)s;

-- name: where_since
-- Made then or later.
w.created_at >= %(since)s;

-- name: where_until
-- Made before.
w.created_at < %(until)s;

-- name: where_queue
-- Of this queue.
w.queue = %(queue)s;

-- name: where_usual_queue
-- Of the queue that most are in.
w.queue = %(queue)s;

-- name: where_other_queue
-- What follows of most queues, and what an index holds.
w.queue <> 'default';

-- name: where_attributes
-- With something that stands in what has all these attributes.
(w.attributes is not null and locate(%(attribute)s, w.attributes) > 0);

-- name: where_wide_attributes
-- The same.
(w.attributes is not null and locate(%(attribute)s, w.attributes) > 0);

-- name: where_text
-- Some text of it holds this.
(
        locate(lower(%(text)s), lower(w.id)) > 0
        or locate(lower(%(text)s), lower(w.workflow)) > 0
        or locate(lower(%(text)s), lower(w.reason)) > 0
        or locate(lower(%(text)s), lower(w.started_by)) > 0
    );

-- name: where_plain_text
-- The same, exactly, for a text of ASCII: what is not ASCII reads as question marks, and of letters these alone fold.
(
        locate(lower(convert(%(text)s using ascii)), lower(convert(w.id using ascii))) > 0
        or locate(lower(convert(%(text)s using ascii)), lower(convert(w.workflow using ascii))) > 0
        or locate(lower(convert(%(text)s using ascii)), lower(convert(w.reason using ascii))) > 0
        or locate(lower(convert(%(text)s using ascii)), lower(convert(w.started_by using ascii))) > 0
    );

-- name: where_ended_before
-- Ended before then.
w.ended_at < %(ended_before)s;

-- name: tallied_status
-- In one of these statuses.
status in %(status)s;

-- name: tallied_workflow
-- Of this workflow.
workflow = %(workflow)s;

-- name: tallied_version
-- Of this version of its workflow.
version = %(version)s;

-- name: tallied_queue
-- Of this queue.
queue = %(queue)s;
