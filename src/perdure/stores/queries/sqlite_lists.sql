-- Lists and counts of executions on SQLite. A statement has only the conditions that a query asks for, so that each finds
-- its index (stores/conditions.py). Some are written as that index is, which no claim uses. `lower` folds the letters of
-- ASCII only, and `perdure_has` is a function of ours: whether all these attributes are there.

-- name: list_newest
-- A page of executions, the newest first.
select w.*
from workflow_executions w
where true
    {conditions}
order by w.created_at desc, w.id desc
limit :limit;

-- name: list_oldest
-- A page of executions, the oldest first.
select w.*
from workflow_executions w
where true
    {conditions}
order by w.created_at, w.id
limit :limit;

-- name: list_ended_newest
-- The same by the time of their end: the oldest by age may all be young by it.
select w.*
from workflow_executions w indexed by workflow_executions_ended
where true
    {conditions}
order by w.created_at desc, w.id desc
limit :limit;

-- name: list_ended_oldest
-- The same, the oldest first.
select w.*
from workflow_executions w indexed by workflow_executions_ended
where true
    {conditions}
order by w.created_at, w.id
limit :limit;

-- name: behind_newest
-- So many executions on, the newest first: where a page ends that looks at no more.
select w.created_at, w.id
from workflow_executions w
where true
    {conditions}
order by w.created_at desc, w.id desc
limit 1 offset :steps;

-- name: behind_oldest
-- The same, the oldest first.
select w.created_at, w.id
from workflow_executions w
where true
    {conditions}
order by w.created_at, w.id
limit 1 offset :steps;

-- name: many_prefix
-- How many ids begin so, up to so many.
select count(*)
from (
    select 1
    from workflow_executions w
    where true
        {conditions}
    limit :most
);

-- name: many_ended_before
-- How many ended before then, up to so many.
select count(*) from (select 1 from workflow_executions w where w.ended_at < :ended_before limit :most);

-- name: many_attributes
-- How many may have the first of these attributes, up to so many.
select count(*)
from (
    select 1
    from json_each(:first_attribute) as q
    join execution_attributes a on a.name = q.key and a.value = coalesce(substr(cast(q.value as text), 1, 200), '')
    limit :most
);

-- name: any_early
-- Whether something ended before it was made.
select exists (select 1 from workflow_executions w where w.ended_at < w.created_at and w.ended_at < :ended_before);

-- name: count_tallied
-- How many executions there are, by status: what has ended is kept counted, of the others so many are looked at.
select status, sum(number) as number, 0 as looked
from execution_tallies
where true
    {conditions}
group by status
having sum(number) > 0
union all
select c.status, count(*), count(*)
from (
    select w.status
    from workflow_executions w
    where (w.status || '') in ('pending', 'waiting', 'paused', 'rolling_back', 'blocked')
        and (w.status || '') not in ('running', 'completed')
        {conditions}
    limit :most
) c
group by c.status
union all
select c.status, count(*), count(*)
from (
    select w.status
    from workflow_executions w
    where w.owner is not null and w.status = 'running'
        {conditions}
    limit :most
) c
group by c.status;

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
    limit :most
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
    limit :most
) c
group by c.status;

-- name: count_executions
-- How many executions match, by status.
select w.status, count(*) as number
from workflow_executions w
where true
    {conditions}
group by w.status;

-- name: where_older
-- Behind a place, the newest first.
(w.created_at, w.id) < (:at, :after);

-- name: where_newer
-- Behind a place, the oldest first.
(w.created_at, w.id) > (:at, :after);

-- name: where_to_older
-- No further than a place, the newest first.
(w.created_at, w.id) >= (:end_at, :end_id);

-- name: where_to_newer
-- No further than a place, the oldest first.
(w.created_at, w.id) <= (:end_at, :end_id);

-- name: where_begun_before
-- What follows of the time of its end, unless a clock went back.
w.created_at < :ended_before;

-- name: where_status
-- In one of these statuses.
(w.status || '') in (select value from json_each(:status));

-- name: where_one_status
-- In this status.
(w.status || '') = :one_status;

-- name: where_seldom
-- What follows of some statuses, and what an index holds.
(w.status || '') not in ('running', 'completed');

-- name: where_owned
-- What follows of one status.
w.owner is not null;

-- name: where_workflow
-- Of this workflow.
(w.workflow || '') = :workflow;

-- name: where_version
-- Of this version of its workflow.
w.version = :version;

-- name: where_parent
-- A child of this one.
w.parent_id = :parent;

-- name: where_by
-- Started by this one.
w.started_by = :by;

-- name: where_prefix
-- Its id begins so.
w.id >= :prefix;

-- name: where_wide_prefix
-- The same for what most ids begin with: not by the index.
+w.id >= :prefix;

-- name: where_prefix_end
-- And not with what comes behind that.
w.id < :prefix_end;

-- name: where_since
-- Made then or later.
w.created_at >= :since;

-- name: where_until
-- Made before.
w.created_at < :until;

-- name: where_queue
-- Of this queue.
(w.queue || '') = :queue;

-- name: where_usual_queue
-- Of the queue that most are in.
w.queue = :queue;

-- name: where_other_queue
-- What follows of most queues, and what an index holds.
(w.queue || '') <> 'default';

-- name: where_attributes
-- With all these attributes: found by the first of them.
(
        w.id in (
            select a.execution_id
            from json_each(:first_attribute) as q
            join execution_attributes a
                on a.name = q.key and a.value = coalesce(substr(cast(q.value as text), 1, 200), '')
        )
        and perdure_has(w.attributes, :attributes)
    );

-- name: where_wide_attributes
-- The same, looked at one by one.
perdure_has(w.attributes, :attributes);

-- name: where_text
-- Some text of it holds this.
(
        instr(lower(w.id), lower(:text)) or instr(lower(w.workflow), lower(:text))
        or instr(lower(w.reason), lower(:text)) or instr(lower(w.started_by), lower(:text))
    );

-- name: where_ended_before
-- Ended before then.
w.ended_at < :ended_before;

-- name: tallied_status
-- In one of these statuses.
status in (select value from json_each(:status));

-- name: tallied_workflow
-- Of this workflow.
workflow = :workflow;

-- name: tallied_version
-- Of this version of its workflow.
version = :version;

-- name: tallied_queue
-- Of this queue.
queue = :queue;
