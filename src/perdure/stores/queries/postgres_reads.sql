-- What is read on PostgreSQL for the command line and pages. No locks are taken. `lower` folds the letters of ASCII
-- only where the collation is "C".

-- name: history
-- A whole journal.
select
    e.execution_id, e.seq, e.generation, e.key, e.kind, e.status, e.attempt, e.fence, e.parent_key, e.input, e.output,
    e.error, e.encoding, e.checksum, e.build, e.started_at, e.completed_at
from step_executions e
where e.execution_id = $1
order by e.seq;

-- name: get_executions
-- These executions.
select w.* from workflow_executions w where w.id = any($1::text[]);

-- name: list_newest
-- A page of executions, the newest first, behind the place ($14, $15).
select w.*
from workflow_executions w
where ($1::text[] is null or w.status = any($1))
    and ($2::text is null or w.workflow = $2)
    and ($3::integer is null or w.version = $3)
    and ($4::text is null or w.parent_id = $4)
    and ($5::text is null or w.started_by = $5)
    and ($6::text is null or starts_with(w.id, $6))
    and ($7::bigint is null or w.created_at >= perdure_time($7))
    and ($8::bigint is null or w.created_at < perdure_time($8))
    and ($9::text is null or w.queue = $9)
    and ($10::text[] is null or not exists (
        select from unnest($10, $11::text[]) as q (name, value)
        where (perdure_plain(w.attributes) -> q.name)::text is distinct from q.value
    ))
    and ($12::text is null or (
        position(lower($12 collate "C") in lower(w.id)) > 0
        or position(lower($12 collate "C") in lower(w.workflow)) > 0
        or position(lower($12 collate "C") in lower(w.reason collate "C")) > 0
        or position(lower($12 collate "C") in lower(w.started_by collate "C")) > 0
    ))
    and ($13::bigint is null or w.ended_at < perdure_time($13))
    and ($14::bigint is null or (w.created_at, w.id) < (perdure_time($14), $15::text))
order by w.created_at desc, w.id desc
limit $16;

-- name: list_oldest
-- A page of executions, the oldest first, behind the place ($14, $15).
select w.*
from workflow_executions w
where ($1::text[] is null or w.status = any($1))
    and ($2::text is null or w.workflow = $2)
    and ($3::integer is null or w.version = $3)
    and ($4::text is null or w.parent_id = $4)
    and ($5::text is null or w.started_by = $5)
    and ($6::text is null or starts_with(w.id, $6))
    and ($7::bigint is null or w.created_at >= perdure_time($7))
    and ($8::bigint is null or w.created_at < perdure_time($8))
    and ($9::text is null or w.queue = $9)
    and ($10::text[] is null or not exists (
        select from unnest($10, $11::text[]) as q (name, value)
        where (perdure_plain(w.attributes) -> q.name)::text is distinct from q.value
    ))
    and ($12::text is null or (
        position(lower($12 collate "C") in lower(w.id)) > 0
        or position(lower($12 collate "C") in lower(w.workflow)) > 0
        or position(lower($12 collate "C") in lower(w.reason collate "C")) > 0
        or position(lower($12 collate "C") in lower(w.started_by collate "C")) > 0
    ))
    and ($13::bigint is null or w.ended_at < perdure_time($13))
    and ($14::bigint is null or (w.created_at, w.id) > (perdure_time($14), $15::text))
order by w.created_at, w.id
limit $16;

-- name: list_ended_newest
-- The same of what ended before a time, found by that time: the oldest by age may all be young by their end.
with ended as materialized (
    select e.id from workflow_executions e where e.ended_at < perdure_time($13::bigint)
)
select w.*
from ended e
join workflow_executions w on w.id = e.id
where ($1::text[] is null or w.status = any($1))
    and ($2::text is null or w.workflow = $2)
    and ($3::integer is null or w.version = $3)
    and ($4::text is null or w.parent_id = $4)
    and ($5::text is null or w.started_by = $5)
    and ($6::text is null or starts_with(w.id, $6))
    and ($7::bigint is null or w.created_at >= perdure_time($7))
    and ($8::bigint is null or w.created_at < perdure_time($8))
    and ($9::text is null or w.queue = $9)
    and ($10::text[] is null or not exists (
        select from unnest($10, $11::text[]) as q (name, value)
        where (perdure_plain(w.attributes) -> q.name)::text is distinct from q.value
    ))
    and ($12::text is null or (
        position(lower($12 collate "C") in lower(w.id)) > 0
        or position(lower($12 collate "C") in lower(w.workflow)) > 0
        or position(lower($12 collate "C") in lower(w.reason collate "C")) > 0
        or position(lower($12 collate "C") in lower(w.started_by collate "C")) > 0
    ))
    and ($14::bigint is null or (w.created_at, w.id) < (perdure_time($14), $15::text))
order by w.created_at desc, w.id desc
limit $16;

-- name: list_ended_oldest
-- The same, the oldest first.
with ended as materialized (
    select e.id from workflow_executions e where e.ended_at < perdure_time($13::bigint)
)
select w.*
from ended e
join workflow_executions w on w.id = e.id
where ($1::text[] is null or w.status = any($1))
    and ($2::text is null or w.workflow = $2)
    and ($3::integer is null or w.version = $3)
    and ($4::text is null or w.parent_id = $4)
    and ($5::text is null or w.started_by = $5)
    and ($6::text is null or starts_with(w.id, $6))
    and ($7::bigint is null or w.created_at >= perdure_time($7))
    and ($8::bigint is null or w.created_at < perdure_time($8))
    and ($9::text is null or w.queue = $9)
    and ($10::text[] is null or not exists (
        select from unnest($10, $11::text[]) as q (name, value)
        where (perdure_plain(w.attributes) -> q.name)::text is distinct from q.value
    ))
    and ($12::text is null or (
        position(lower($12 collate "C") in lower(w.id)) > 0
        or position(lower($12 collate "C") in lower(w.workflow)) > 0
        or position(lower($12 collate "C") in lower(w.reason collate "C")) > 0
        or position(lower($12 collate "C") in lower(w.started_by collate "C")) > 0
    ))
    and ($14::bigint is null or (w.created_at, w.id) > (perdure_time($14), $15::text))
order by w.created_at, w.id
limit $16;

-- name: count_executions
-- How many executions match, by status.
select w.status, count(*) as number
from workflow_executions w
where ($1::text[] is null or w.status = any($1))
    and ($2::text is null or w.workflow = $2)
    and ($3::integer is null or w.version = $3)
    and ($4::text is null or w.parent_id = $4)
    and ($5::text is null or w.started_by = $5)
    and ($6::text is null or starts_with(w.id, $6))
    and ($7::bigint is null or w.created_at >= perdure_time($7))
    and ($8::bigint is null or w.created_at < perdure_time($8))
    and ($9::text is null or w.queue = $9)
    and ($10::text[] is null or not exists (
        select from unnest($10, $11::text[]) as q (name, value)
        where (perdure_plain(w.attributes) -> q.name)::text is distinct from q.value
    ))
    and ($12::text is null or (
        position(lower($12 collate "C") in lower(w.id)) > 0
        or position(lower($12 collate "C") in lower(w.workflow)) > 0
        or position(lower($12 collate "C") in lower(w.reason collate "C")) > 0
        or position(lower($12 collate "C") in lower(w.started_by collate "C")) > 0
    ))
    and ($13::bigint is null or w.ended_at < perdure_time($13))
group by w.status;

-- name: get_requests
-- These requests, or those of these executions, or all, oldest first.
select r.*
from approval_requests r
where (r.id = any($1::text[]) or r.execution_id = any($2::text[]) or cardinality($1) + cardinality($2) = 0)
    and ($3::text is null or r.status = $3)
order by r.created_at, r.id
limit $4;

-- name: descendants
-- All below an execution that have not ended, level by level.
with recursive tree as (
    select w.id, 1 as depth from workflow_executions w where w.parent_id = $1
    union all
    select w.id, t.depth + 1 from tree t join workflow_executions w on w.parent_id = t.id
)
select w.*
from tree t join workflow_executions w on w.id = t.id
where w.status not in ('completed', 'failed', 'cancelled', 'rolled_back', 'rollback_failed')
order by t.depth, w.created_at, w.id;

-- name: get_workers
-- Those that are alive, and those that are not and still own executions.
select k.*
from workers k
where k.state = 'live' or exists (select from workflow_executions w where w.owner = k.id)
order by k.id;

-- name: tail
-- Entries of these kinds behind a place.
select
    e.execution_id, e.seq, e.generation, e.key, e.kind, e.status, e.attempt, e.fence, e.parent_key, e.input, e.output,
    e.error, e.encoding, e.checksum, e.build, e.started_at, e.completed_at
from step_executions e
where e.execution_id = $1 and e.seq > $2 and e.kind = any($3::text[])
order by e.seq
limit $4;

-- name: latest
-- The last entry of a key.
select
    e.execution_id, e.seq, e.generation, e.key, e.kind, e.status, e.attempt, e.fence, e.parent_key, e.input, e.output,
    e.error, e.encoding, e.checksum, e.build, e.started_at, e.completed_at
from step_executions e
where e.execution_id = $1 and e.key = $2
order by e.seq desc
limit 1;

-- name: tallies
-- All executions by workflow, queue and status, and since when the oldest of each.
select w.workflow, w.queue, w.status, count(*) as number, min(w.created_at) as oldest
from workflow_executions w
group by w.workflow, w.queue, w.status
order by w.workflow, w.queue, w.status collate "C";

-- name: schedules
-- All of them.
select s.* from schedules s order by s.name;
