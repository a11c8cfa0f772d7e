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

-- name: count_some
-- How many executions match, by status, up to so many.
select c.status, count(*) as number
from (
    select w.status
    from workflow_executions w
    where true
        {conditions}
    limit %(most)s
) c
group by c.status;

-- name: count_executions
-- How many executions match, by status.
select w.status, count(*) as number
from workflow_executions w
where true
    {conditions}
group by w.status;

-- name: candidates
-- What may match, with all that has to be compared by the caller.
select w.id, w.status, w.workflow, w.reason, w.started_by, w.attributes
from workflow_executions w
where true
    {conditions};

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
-- With all these attributes.
w.attributes is not null;

-- name: where_wide_attributes
-- The same.
w.attributes is not null;

-- name: where_text
-- Some text of it holds this.
(
        locate(lower(%(text)s), lower(w.id)) > 0
        or locate(lower(%(text)s), lower(w.workflow)) > 0
        or locate(lower(%(text)s), lower(w.reason)) > 0
        or locate(lower(%(text)s), lower(w.started_by)) > 0
    );

-- name: where_ended_before
-- Ended before then.
w.ended_at < %(ended_before)s;
