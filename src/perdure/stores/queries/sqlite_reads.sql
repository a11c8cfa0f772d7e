-- What is read on SQLite for the command line and pages. `lower` there folds the letters of ASCII only, and
-- `perdure_has` is a function of ours: whether all these attributes are there.

-- name: list_newest
-- Executions, newest first, behind a cursor.
select * from workflow_executions
where (created_at, id) < (:cursor_at, :cursor_id)
  and created_at >= :since and created_at < :until
  and (:status is null or status in (select value from json_each(:status)))
  and (:workflow is null or workflow = :workflow)
  and (:version is null or version = :version)
  and (:parent is null or parent_id = :parent)
  and (:started_by is null or started_by = :started_by)
  and (:prefix is null or substr(id, 1, length(:prefix)) = :prefix)
  and (:queue is null or queue = :queue)
  and (:attributes is null or perdure_has(attributes, :attributes))
  and (
    :text is null
    or instr(lower(id), lower(:text)) or instr(lower(workflow), lower(:text))
    or instr(lower(reason), lower(:text)) or instr(lower(started_by), lower(:text))
  )
order by created_at desc, id desc
limit :limit;

-- name: list_oldest
-- Executions, oldest first, behind a cursor.
select * from workflow_executions
where (created_at, id) > (:cursor_at, :cursor_id)
  and created_at >= :since and created_at < :until
  and (:status is null or status in (select value from json_each(:status)))
  and (:workflow is null or workflow = :workflow)
  and (:version is null or version = :version)
  and (:parent is null or parent_id = :parent)
  and (:started_by is null or started_by = :started_by)
  and (:prefix is null or substr(id, 1, length(:prefix)) = :prefix)
  and (:queue is null or queue = :queue)
  and (:attributes is null or perdure_has(attributes, :attributes))
  and (
    :text is null
    or instr(lower(id), lower(:text)) or instr(lower(workflow), lower(:text))
    or instr(lower(reason), lower(:text)) or instr(lower(started_by), lower(:text))
  )
order by created_at, id
limit :limit;

-- name: list_ended_newest
-- The same of what ended before a time: looked for by that time, then sorted.
select * from workflow_executions indexed by workflow_executions_ended
where ended_at is not null and ended_at < :ended_before
  and (created_at, id) < (:cursor_at, :cursor_id)
  and created_at >= :since and created_at < :until
  and (:status is null or status in (select value from json_each(:status)))
  and (:workflow is null or workflow = :workflow)
  and (:version is null or version = :version)
  and (:parent is null or parent_id = :parent)
  and (:started_by is null or started_by = :started_by)
  and (:prefix is null or substr(id, 1, length(:prefix)) = :prefix)
  and (:queue is null or queue = :queue)
  and (:attributes is null or perdure_has(attributes, :attributes))
  and (
    :text is null
    or instr(lower(id), lower(:text)) or instr(lower(workflow), lower(:text))
    or instr(lower(reason), lower(:text)) or instr(lower(started_by), lower(:text))
  )
order by created_at desc, id desc
limit :limit;

-- name: list_ended_oldest
-- The same, oldest first.
select * from workflow_executions indexed by workflow_executions_ended
where ended_at is not null and ended_at < :ended_before
  and (created_at, id) > (:cursor_at, :cursor_id)
  and created_at >= :since and created_at < :until
  and (:status is null or status in (select value from json_each(:status)))
  and (:workflow is null or workflow = :workflow)
  and (:version is null or version = :version)
  and (:parent is null or parent_id = :parent)
  and (:started_by is null or started_by = :started_by)
  and (:prefix is null or substr(id, 1, length(:prefix)) = :prefix)
  and (:queue is null or queue = :queue)
  and (:attributes is null or perdure_has(attributes, :attributes))
  and (
    :text is null
    or instr(lower(id), lower(:text)) or instr(lower(workflow), lower(:text))
    or instr(lower(reason), lower(:text)) or instr(lower(started_by), lower(:text))
  )
order by created_at, id
limit :limit;

-- name: count
-- How many executions match, by status.
select status, count(*) from workflow_executions
where created_at >= :since and created_at < :until
  and (:status is null or status in (select value from json_each(:status)))
  and (:workflow is null or workflow = :workflow)
  and (:version is null or version = :version)
  and (:parent is null or parent_id = :parent)
  and (:started_by is null or started_by = :started_by)
  and (:prefix is null or substr(id, 1, length(:prefix)) = :prefix)
  and (:queue is null or queue = :queue)
  and (:attributes is null or perdure_has(attributes, :attributes))
  and (
    :text is null
    or instr(lower(id), lower(:text)) or instr(lower(workflow), lower(:text))
    or instr(lower(reason), lower(:text)) or instr(lower(started_by), lower(:text))
  )
  and (:ended_before is null or ended_at < :ended_before)
group by status;

-- name: tail
-- Entries of these kinds behind a place.
select
    execution_id, seq, generation, key, kind, status, attempt, fence, parent_key, input, output, error, encoding,
    checksum, build, started_at, completed_at
from step_executions
where execution_id = :id and seq > :after and kind in (select value from json_each(:kinds))
order by seq
limit :limit;

-- name: latest
-- The last entry of a key.
select
    execution_id, seq, generation, key, kind, status, attempt, fence, parent_key, input, output, error, encoding,
    checksum, build, started_at, completed_at
from step_executions
where execution_id = :id and key = :key
order by seq desc
limit 1;

-- name: tallies
-- All executions by workflow, queue and status, and since when the oldest of each.
select workflow, queue, status, count(*), min(created_at)
from workflow_executions
group by workflow, queue, status
order by workflow, queue, status;

-- name: all_requests
-- Requests, oldest first.
select * from approval_requests where :status is null or status = :status order by created_at, id limit :limit;

-- name: some_requests
-- These requests, and those of these executions, oldest first.
select * from approval_requests
where (id in (select value from json_each(:ids)) or execution_id in (select value from json_each(:execution_ids)))
  and (:status is null or status = :status)
order by created_at, id
limit :limit;

-- name: tree
-- All descendants that have not ended.
with recursive descendants (id) as (
    select id from workflow_executions where parent_id = ?
    union
    select child.id from workflow_executions as child join descendants on child.parent_id = descendants.id
)
select * from workflow_executions
where id in (select id from descendants)
  and status not in ('completed', 'failed', 'cancelled', 'rolled_back', 'rollback_failed');

-- name: schedules
-- All of them.
select * from schedules order by name;
