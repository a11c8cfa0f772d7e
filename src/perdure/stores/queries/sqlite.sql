-- Perdure on SQLite. `begin immediate` is the one lock: whoever holds it is alone, so that looking and writing
-- in one transaction need no row locks. Lists of ids come as one JSON text.

-- name: begin
-- Take the lock of the whole database, or say at once that it is held.
begin immediate;

-- name: commit
-- Make it durable.
commit;

-- name: rollback
-- As if nothing had been.
rollback;

-- name: use_wal
-- Readers and the writer do not wait for each other.
pragma journal_mode = wal;

-- name: use_full
-- A commit is on the disk when it returns.
pragma synchronous = full;

-- name: use_normal
-- For leases, which need not outlive a power cut: no wait for the disk.
pragma synchronous = normal;

-- name: checkpoint_soon
-- For the one connection that moves the log into the database.
pragma wal_autocheckpoint = 1000;

-- name: checkpoint_late
-- For the others: only when the log has grown so much that nobody else seems to do it.
pragma wal_autocheckpoint = 20000;

-- name: data_version
-- Changes when another connection has committed, never by commits of this one.
pragma data_version;

-- name: tables
-- The tables of the database.
select name from sqlite_master where type = 'table';

-- name: schema_version
-- The version of the schema, and the oldest library that may write to it.
select coalesce(max(version), 0), coalesce(max(oldest_writer), 0) from schema_versions;

-- name: try_to_write
-- Fails where the file is read-only, which `begin immediate` alone does not.
update schema_versions set version = version where false;

-- name: record_version
-- A migration was applied.
insert into schema_versions (version, applied_at, oldest_writer) values (?, ?, ?);

-- Workers ------------------------------------------------------------------------------------------------------

-- name: insert_worker
-- A worker appears.
insert into workers (epoch, state, host, pid, process, build, workflows, queues, started_at, lease_until)
values (1, 'live', :host, :pid, :process, :build, :workflows, :queues, :started_at, :lease_until);

-- name: record_definitions
-- What it registered.
insert into workflow_definitions (name, version, build, registered_at)
select json_extract(value, '$[0]'), json_extract(value, '$[1]'), :build, :now from json_each(:workflows) where true
on conflict (name, version) do update set build = excluded.build, registered_at = excluded.registered_at;

-- name: worker_stands
-- Whether a worker lives, in this epoch.
select 1 from workers where id = ? and epoch = ? and state = 'live';

-- name: renew_lease
-- A heartbeat.
update workers set lease_until = :lease_until where id = :id and epoch = :epoch and state = 'live';

-- name: worker
-- One worker.
select * from workers where id = ?;

-- name: live_workers
-- All that live.
select * from workers where state = 'live' order by id;

-- name: workers
-- All that live, and the dead that still own executions.
select * from workers
where state = 'live' or id in (select owner from workflow_executions where owner is not null)
order by id;

-- name: declare_dead
-- From here on nothing of this worker is recorded.
update workers set state = 'dead', epoch = epoch + 1 where id = ? and state = 'live';

-- name: retire_worker
-- It left by itself.
update workers set state = 'gone' where id = ?;

-- name: disown
-- What a worker that leaves still owned.
update workflow_executions set status = 'pending', owner = null, updated_at = :now where owner = :worker;

-- Commit -------------------------------------------------------------------------------------------------------

-- name: insert_entry
-- One entry of a journal.
insert into step_executions (
    execution_id, seq, generation, key, kind, status, attempt, fence, parent_key, input, output, error, encoding,
    checksum, build, started_at, completed_at
) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: insert_execution
-- An execution appears, unless its id is taken.
insert into workflow_executions (
    id, workflow, version, status, queue, priority, owner, fence, nudges, generation, input, output, error, encoding,
    checksum, wish, wish_by, wish_reason, reason, wake_at, parent_id, parent_key, started_by, attributes, build,
    crashes, crash_seq, token, created_at, updated_at, ended_at
) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
on conflict (id) do nothing;

-- name: change_execution
-- The owner changes the row: if its fence stands and, to park, nothing has come meanwhile.
update workflow_executions set
    status = :status,
    owner = case when :status = 'running' then owner end,
    output = :output,
    error = :error,
    checksum = :checksum,
    reason = :reason,
    wake_at = :wake_at,
    token = :token,
    updated_at = :at,
    ended_at = :ended_at
where id = :id and fence = :fence and (:status <> 'waiting' or nudges = :nudges);

-- name: marks
-- What verdicts are judged by.
select fence, nudges, token from workflow_executions where id = ?;

-- name: nudge
-- Something has come for an execution; if it was parked, it is due.
update workflow_executions set
    nudges = nudges + 1,
    wake_at = case when status = 'waiting' then null else wake_at end,
    status = case when status = 'waiting' then 'pending' else status end,
    updated_at = :now
where id = :id;

-- name: insert_request
-- A request, unless its id is there.
insert into approval_requests (
    id, execution_id, key, generation, kind, message, details, schema, default_answer, assignee, status, answer,
    answered_by, answered_via, checksum, expires_at, created_at, decided_at
) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
on conflict (id) do nothing;

-- name: close_request
-- Its wait was withdrawn. Not where the owner was refused.
update approval_requests set status = 'withdrawn', decided_at = :now
where id = :id and status = 'open' and execution_id not in (select value from json_each(:refused));

-- name: free_message
-- The message that an entry took was not used.
update messages set taken_seq = null where execution_id = ? and taken_seq = ?;

-- name: take_message
-- An entry received a message. Not where the owner was refused.
update messages set taken_seq = :seq where id = :id and execution_id not in (select value from json_each(:refused));

-- name: entry
-- One entry of a journal.
select
    execution_id, seq, generation, key, kind, status, attempt, fence, parent_key, input, output, error, encoding,
    checksum, build, started_at, completed_at
from step_executions where execution_id = ? and seq = ?;

-- Claims -------------------------------------------------------------------------------------------------------

-- name: claimable
-- What a worker may take: three index ranges (ready, due, orphaned), merged.
select id, status from (
    select * from (
        select id, status, priority, created_at from workflow_executions
        where status = 'pending' and wake_at is null
          and queue in (select value from json_each(:queues))
          and (workflow, version) in (
        select json_extract(value, '$[0]'), json_extract(value, '$[1]') from json_each(:workflows)
      )
        order by priority desc, created_at, id
        limit :limit
    )
    union all
    select id, status, priority, created_at from workflow_executions
    where status in ('pending', 'waiting') and wake_at is not null and wake_at <= :now
      and queue in (select value from json_each(:queues))
      and (workflow, version) in (
        select json_extract(value, '$[0]'), json_extract(value, '$[1]') from json_each(:workflows)
      )
    union all
    select id, status, priority, created_at from workflow_executions
    where status = 'running' and owner in (select id from workers where state <> 'live')
      and queue in (select value from json_each(:queues))
      and (workflow, version) in (
        select json_extract(value, '$[0]'), json_extract(value, '$[1]') from json_each(:workflows)
      )
)
order by priority desc, created_at, id
limit :limit;

-- name: count_crash
-- Its owner died: 1 if it got on since the last time, else one more.
update workflow_executions set
    crashes = case when :last > crash_seq then 1 else crashes + 1 end,
    crash_seq = :last
where id = :id;

-- name: last_seq
-- How far a journal has come.
select coalesce(max(seq), 0) from step_executions where execution_id = ?;

-- name: claim
-- A new owner, a new fence.
update workflow_executions set
    status = 'running', owner = :worker, fence = fence + 1, wake_at = null, updated_at = :now
where id = :id;

-- name: next_wake
-- The earliest time at which something is due.
select wake_at from workflow_executions
where status in ('pending', 'waiting') and wake_at is not null
order by wake_at limit 1;

-- Reads of the owner -------------------------------------------------------------------------------------------

-- name: load
-- The journals without what is folded: inner entries of a body whose outcome is recorded, before the first cut.
select
    execution_id, seq, generation, key, kind, status, attempt, fence, parent_key, input, output, error, encoding,
    checksum, build, started_at, completed_at
from step_executions as entry
where execution_id in (select value from json_each(:ids))
  and (
    parent_key is null
    or (execution_id, parent_key) not in (
        select execution_id, key from step_executions
        where execution_id in (select value from json_each(:ids))
          and kind not in ('intent', 'attempt')
          and status in ('completed', 'failed')
          and (execution_id, key) in (
              select execution_id, parent_key from step_executions
              where execution_id in (select value from json_each(:ids)) and parent_key is not null
          )
    )
    or exists (select 1 from workflow_executions where id = entry.execution_id and generation > 0)
  )
order by execution_id, seq;

-- name: history
-- The whole journals of these executions.
select
    execution_id, seq, generation, key, kind, status, attempt, fence, parent_key, input, output, error, encoding,
    checksum, build, started_at, completed_at
from step_executions where execution_id in (select value from json_each(:ids)) order by execution_id, seq;

-- name: executions
-- These executions.
select * from workflow_executions where id in (select value from json_each(?));

-- name: children
-- The children of these executions, oldest first.
select * from workflow_executions where parent_id in (select value from json_each(?)) order by created_at, id;

-- name: requests_of
-- All requests of these executions, oldest first.
select * from approval_requests where execution_id in (select value from json_each(?)) order by created_at, id;

-- name: messages_of
-- The messages of these executions that were not yet received, in their order.
select * from messages
where execution_id in (select value from json_each(?)) and taken_seq is null
order by execution_id, ordinal;

-- name: nudged
-- The nudges of what a worker owns.
select id, nudges from workflow_executions where owner = ?;

-- Deliveries ---------------------------------------------------------------------------------------------------

-- name: request
-- One request.
select * from approval_requests where id = ?;

-- name: standing
-- What a delivery looks at: status, owner, parent, and whether that owner lives.
select status, parent_id, owner in (select id from workers where state = 'live') as owned
from workflow_executions where id = ?;

-- name: decide_request
-- The first answer, or the expiry.
update approval_requests set
    status = :status, answer = :answer, answered_by = :by, answered_via = :via, checksum = :checksum, decided_at = :now
where id = :id;

-- name: message_exists
-- Whether a message was delivered.
select 1 from messages where id = ?;

-- name: insert_message
-- A message, behind all others of its execution.
insert into messages (id, execution_id, name, value, checksum, ordinal, taken_seq, sent_by, created_at)
select :id, :execution_id, :name, :value, :checksum, coalesce(max(ordinal), 0) + 1, null, :sent_by, :now
from messages where execution_id = :execution_id;

-- name: wish
-- What the owner shall do.
update workflow_executions set wish = :wish, wish_by = :by, wish_reason = :reason where id = :id;

-- name: cancel_execution
-- There is no owner: the wish is carried out here.
update workflow_executions set
    status = 'cancelled', owner = null, fence = fence + 1, wake_at = null, reason = wish_reason,
    updated_at = :now, ended_at = :now
where id = :id;

-- name: withdraw_requests
-- Nobody waits for their answers any more.
update approval_requests set status = 'withdrawn', decided_at = :now where execution_id = :id and status = 'open';

-- name: resume_execution
-- Somebody has looked after it.
update workflow_executions set
    status = 'pending', nudges = nudges + 1, reason = null, wake_at = null, crashes = 0, updated_at = :now,
    wish_by = case when wish = 'pause' then null else wish_by end,
    wish_reason = case when wish = 'pause' then null else wish_reason end,
    wish = case when wish = 'pause' then null else wish end
where id = :id;

-- Insight ------------------------------------------------------------------------------------------------------

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
group by status;

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
