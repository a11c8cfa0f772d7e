-- What is read on MariaDB and MySQL for the command line and pages. No locks are taken. What these servers cannot compare
-- as the contract has it (attributes as text, letters of ASCII alone folded) is compared in stores/mysql_reads.py; what
-- is here lets more through, never less.

-- name: history
-- A whole journal.
select
    e.execution_id, e.seq, e.generation, e.`key`, e.kind, e.status, e.attempt, e.fence, e.parent_key, e.input, e.output,
    e.error, e.encoding, e.checksum, e.build, e.started_at, e.completed_at
from step_executions e
where e.execution_id = %(id)s
order by e.seq;

-- name: get_executions
-- These executions.
select w.* from workflow_executions w where w.id in %(ids)s;

-- name: list_newest
-- A page of executions, the newest first, behind the place.
select w.*
from workflow_executions w
where (%(any_status)s or w.status in %(statuses)s)
    and (%(workflow)s is null or w.workflow = %(workflow)s)
    and (%(version)s is null or w.version = %(version)s)
    and (%(parent)s is null or w.parent_id = %(parent)s)
    and (%(by)s is null or w.started_by = %(by)s)
    and (%(prefix)s is null or left(w.id, char_length(%(prefix)s)) = %(prefix)s)
    and (%(since)s is null or w.created_at >= %(since)s)
    and (%(until)s is null or w.created_at < %(until)s)
    and (%(queue)s is null or w.queue = %(queue)s)
    and (%(has_attributes)s = 0 or w.attributes is not null)
    and (%(text)s is null or (
        locate(lower(%(text)s), lower(w.id)) > 0
        or locate(lower(%(text)s), lower(w.workflow)) > 0
        or locate(lower(%(text)s), lower(w.reason)) > 0
        or locate(lower(%(text)s), lower(w.started_by)) > 0
    ))
    and (%(ended_before)s is null or w.ended_at < %(ended_before)s)
    and (%(at)s is null or (
        w.created_at <= %(at)s and (w.created_at < %(at)s or w.id < %(after)s)
    ))
order by w.created_at desc, w.id desc
limit %(limit)s;

-- name: list_oldest
-- A page of executions, the oldest first, behind the place.
select w.*
from workflow_executions w
where (%(any_status)s or w.status in %(statuses)s)
    and (%(workflow)s is null or w.workflow = %(workflow)s)
    and (%(version)s is null or w.version = %(version)s)
    and (%(parent)s is null or w.parent_id = %(parent)s)
    and (%(by)s is null or w.started_by = %(by)s)
    and (%(prefix)s is null or left(w.id, char_length(%(prefix)s)) = %(prefix)s)
    and (%(since)s is null or w.created_at >= %(since)s)
    and (%(until)s is null or w.created_at < %(until)s)
    and (%(queue)s is null or w.queue = %(queue)s)
    and (%(has_attributes)s = 0 or w.attributes is not null)
    and (%(text)s is null or (
        locate(lower(%(text)s), lower(w.id)) > 0
        or locate(lower(%(text)s), lower(w.workflow)) > 0
        or locate(lower(%(text)s), lower(w.reason)) > 0
        or locate(lower(%(text)s), lower(w.started_by)) > 0
    ))
    and (%(ended_before)s is null or w.ended_at < %(ended_before)s)
    and (%(at)s is null or (
        w.created_at >= %(at)s and (w.created_at > %(at)s or w.id > %(after)s)
    ))
order by w.created_at, w.id
limit %(limit)s;

-- name: list_ended_newest
-- The same of what ended before a time, found by that time: the oldest by age may all be young by their end.
select w.*
from workflow_executions w force index (workflow_executions_ended)
where (%(any_status)s or w.status in %(statuses)s)
    and (%(workflow)s is null or w.workflow = %(workflow)s)
    and (%(version)s is null or w.version = %(version)s)
    and (%(parent)s is null or w.parent_id = %(parent)s)
    and (%(by)s is null or w.started_by = %(by)s)
    and (%(prefix)s is null or left(w.id, char_length(%(prefix)s)) = %(prefix)s)
    and (%(since)s is null or w.created_at >= %(since)s)
    and (%(until)s is null or w.created_at < %(until)s)
    and (%(queue)s is null or w.queue = %(queue)s)
    and (%(has_attributes)s = 0 or w.attributes is not null)
    and (%(text)s is null or (
        locate(lower(%(text)s), lower(w.id)) > 0
        or locate(lower(%(text)s), lower(w.workflow)) > 0
        or locate(lower(%(text)s), lower(w.reason)) > 0
        or locate(lower(%(text)s), lower(w.started_by)) > 0
    ))
    and (%(ended_before)s is null or w.ended_at < %(ended_before)s)
    and (%(at)s is null or (
        w.created_at <= %(at)s and (w.created_at < %(at)s or w.id < %(after)s)
    ))
order by w.created_at desc, w.id desc
limit %(limit)s;

-- name: list_ended_oldest
-- The same, the oldest first.
select w.*
from workflow_executions w force index (workflow_executions_ended)
where (%(any_status)s or w.status in %(statuses)s)
    and (%(workflow)s is null or w.workflow = %(workflow)s)
    and (%(version)s is null or w.version = %(version)s)
    and (%(parent)s is null or w.parent_id = %(parent)s)
    and (%(by)s is null or w.started_by = %(by)s)
    and (%(prefix)s is null or left(w.id, char_length(%(prefix)s)) = %(prefix)s)
    and (%(since)s is null or w.created_at >= %(since)s)
    and (%(until)s is null or w.created_at < %(until)s)
    and (%(queue)s is null or w.queue = %(queue)s)
    and (%(has_attributes)s = 0 or w.attributes is not null)
    and (%(text)s is null or (
        locate(lower(%(text)s), lower(w.id)) > 0
        or locate(lower(%(text)s), lower(w.workflow)) > 0
        or locate(lower(%(text)s), lower(w.reason)) > 0
        or locate(lower(%(text)s), lower(w.started_by)) > 0
    ))
    and (%(ended_before)s is null or w.ended_at < %(ended_before)s)
    and (%(at)s is null or (
        w.created_at >= %(at)s and (w.created_at > %(at)s or w.id > %(after)s)
    ))
order by w.created_at, w.id
limit %(limit)s;

-- name: count_executions
-- How many executions match, by status.
select w.status, count(*) as number
from workflow_executions w
where (%(any_status)s or w.status in %(statuses)s)
    and (%(workflow)s is null or w.workflow = %(workflow)s)
    and (%(version)s is null or w.version = %(version)s)
    and (%(parent)s is null or w.parent_id = %(parent)s)
    and (%(by)s is null or w.started_by = %(by)s)
    and (%(prefix)s is null or left(w.id, char_length(%(prefix)s)) = %(prefix)s)
    and (%(since)s is null or w.created_at >= %(since)s)
    and (%(until)s is null or w.created_at < %(until)s)
    and (%(queue)s is null or w.queue = %(queue)s)
    and (%(has_attributes)s = 0 or w.attributes is not null)
    and (%(text)s is null or (
        locate(lower(%(text)s), lower(w.id)) > 0
        or locate(lower(%(text)s), lower(w.workflow)) > 0
        or locate(lower(%(text)s), lower(w.reason)) > 0
        or locate(lower(%(text)s), lower(w.started_by)) > 0
    ))
    and (%(ended_before)s is null or w.ended_at < %(ended_before)s)
group by w.status;

-- name: candidates
-- What may match, with all that has to be compared by the caller.
select w.id, w.status, w.workflow, w.reason, w.started_by, w.attributes
from workflow_executions w
where (%(any_status)s or w.status in %(statuses)s)
    and (%(workflow)s is null or w.workflow = %(workflow)s)
    and (%(version)s is null or w.version = %(version)s)
    and (%(parent)s is null or w.parent_id = %(parent)s)
    and (%(by)s is null or w.started_by = %(by)s)
    and (%(prefix)s is null or left(w.id, char_length(%(prefix)s)) = %(prefix)s)
    and (%(since)s is null or w.created_at >= %(since)s)
    and (%(until)s is null or w.created_at < %(until)s)
    and (%(queue)s is null or w.queue = %(queue)s)
    and (%(has_attributes)s = 0 or w.attributes is not null)
    and (%(text)s is null or (
        locate(lower(%(text)s), lower(w.id)) > 0
        or locate(lower(%(text)s), lower(w.workflow)) > 0
        or locate(lower(%(text)s), lower(w.reason)) > 0
        or locate(lower(%(text)s), lower(w.started_by)) > 0
    ))
    and (%(ended_before)s is null or w.ended_at < %(ended_before)s);

-- name: get_requests
-- These requests, or those of these executions, or all, oldest first.
select r.*
from approval_requests r
where (%(all)s or r.id in %(ids)s or r.execution_id in %(execution_ids)s)
    and (%(status)s is null or r.status = %(status)s)
order by r.created_at, r.id
limit %(limit)s;

-- name: children
-- All children of these, open or not.
select w.* from workflow_executions w where w.parent_id in %(ids)s order by w.created_at, w.id;

-- name: get_workers
-- Those that are alive, and those that are not and still own executions.
select k.*
from workers k
where k.state = 'live' or exists (select 1 from workflow_executions w where w.owner = k.id)
order by k.id;

-- name: tail
-- Entries of these kinds behind a place.
select
    e.execution_id, e.seq, e.generation, e.`key`, e.kind, e.status, e.attempt, e.fence, e.parent_key, e.input, e.output,
    e.error, e.encoding, e.checksum, e.build, e.started_at, e.completed_at
from step_executions e
where e.execution_id = %(id)s and e.seq > %(after)s and e.kind in %(kinds)s
order by e.seq
limit %(limit)s;

-- name: latest
-- The last entry of a key.
select
    e.execution_id, e.seq, e.generation, e.`key`, e.kind, e.status, e.attempt, e.fence, e.parent_key, e.input, e.output,
    e.error, e.encoding, e.checksum, e.build, e.started_at, e.completed_at
from step_executions e
where e.execution_id = %(id)s and e.`key` = %(key)s
order by e.seq desc
limit 1;

-- name: tallies
-- All executions by workflow, queue and status, and since when the oldest of each.
select w.workflow, w.queue, w.status, count(*) as number, min(w.created_at) as oldest
from workflow_executions w
group by w.workflow, w.queue, w.status
order by w.workflow, w.queue, w.status;

-- name: schedules
-- All of them.
select s.* from schedules s order by s.name;
