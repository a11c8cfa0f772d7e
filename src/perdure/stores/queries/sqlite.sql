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

-- name: use_memory
-- A statement that has triggers keeps what it may have to take back: not in a file, which costs a fifth of a commit.
pragma temp_store = memory;

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
-- The version of the schema, and the oldest library that may write to it. The last number is a mark: see
-- sqlite_moves.sql.
select coalesce(max(version), 0), coalesce(max(oldest_writer), 0) from schema_versions
where version < 1000000000;

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
-- What a worker that leaves still owned. A rollback is due at once.
update workflow_executions set
    wake_at = case when status = 'rolling_back' then :now else wake_at end,
    status = case when status = 'rolling_back' then status else 'pending' end,
    owner = null,
    updated_at = :now
where owner = :worker;

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
    crashes, crash_seq, token, created_at, updated_at, ended_at, started_at, base_seq, refused
) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
on conflict (id) do nothing;

-- name: change_execution
-- The owner changes the row: if its fence stands and, to park, nothing has come meanwhile. What is null of the last
-- five is kept, and the texts without a new sum. A cancelling that was carried out replaces what was wished since.
update workflow_executions set
    status = :status,
    owner = case when :status = 'running' or (:status = 'rolling_back' and :wake_at is null) then owner end,
    output = case when :checksum is null then output else :output end,
    error = case when :checksum is null then error else :error end,
    checksum = coalesce(:checksum, checksum),
    reason = :reason,
    wake_at = :wake_at,
    token = :token,
    updated_at = :at,
    ended_at = :ended_at,
    input = coalesce(:input, input),
    generation = coalesce(:generation, generation),
    base_seq = coalesce(:base_seq, base_seq),
    attributes = coalesce(:attributes, attributes),
    refused = coalesce(:refused, refused),
    wish = case when :status = 'cancelled' then 'cancel' else wish end,
    wish_by = case when :status = 'cancelled' then :by else wish_by end,
    wish_reason = case when :status = 'cancelled' then :reason else wish_reason end
where id = :id and fence = :fence and (:status not in ('waiting', 'rollback_failed') or nudges = :nudges);

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
    answered_by, answered_via, checksum, expires_at, created_at, decided_at, policy, digest
) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
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

-- name: insert_decision
-- One person's word on an action of a request.
insert into approval_decisions (
    request_id, ordinal, execution_id, action_id, decision, arguments, comment, digest, decided_by, decided_via,
    decided_at
) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: insert_event
-- What somebody did from outside.
insert into audit_events (
    execution_id, ordinal, request_id, what, actor, via, comment, details, previous, digest, created_at
) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: put_action
-- What undoes an entry, as it stands now.
insert or replace into rollback_actions (
    execution_id, generation, seq, key, undo, status, attempt, output, error, encoding, checksum, resolved_by,
    started_at, completed_at
) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: insert_snapshot
-- The state behind an entry, unless it is there: a batch may come again.
insert or ignore into state_snapshots (
    execution_id, seq, branch, generation, name, cause, kind, base_digest, digest, state, encoding, checksum,
    created_at
) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: entry
-- One entry of a journal.
select
    execution_id, seq, generation, key, kind, status, attempt, fence, parent_key, input, output, error, encoding,
    checksum, build, started_at, completed_at
from step_executions where execution_id = ? and seq = ?;

-- Claims -------------------------------------------------------------------------------------------------------

-- name: claimable
-- What a worker may take: three index ranges (ready, queue by queue; due; orphaned), merged. Suspects are not in it.
-- The plus keeps SQLite from sorting each range by itself, which takes four times as long.
select id, orphaned, priority, created_at from (
    select ready.id, false as orphaned, ready.priority, ready.created_at
    from json_each(:queues) as q
    cross join workflow_executions as ready on ready.id in (
        select id from workflow_executions
        where status = 'pending' and wake_at is null and queue = q.value and crashes < 2
          and (workflow, version) in (
            select json_extract(value, '$[0]'), json_extract(value, '$[1]') from json_each(:workflows)
          )
          and (refused is null or not json_valid(refused) or not exists (select 1 from json_each(refused) where value = :build))
        order by priority desc, created_at, id
        limit :limit
    )
    union all
    select id, false, priority, created_at from workflow_executions
    where status in ('pending', 'waiting', 'rolling_back') and wake_at is not null and wake_at <= :now and crashes < 2
      and queue in (select value from json_each(:queues))
      and (workflow, version) in (
        select json_extract(value, '$[0]'), json_extract(value, '$[1]') from json_each(:workflows)
      )
      and (refused is null or not json_valid(refused) or not exists (select 1 from json_each(refused) where value = :build))
    union all
    select id, true, priority, created_at from workflow_executions
    where status in ('running', 'rolling_back') and owner in (select id from workers where state <> 'live') and crashes = 0
      and queue in (select value from json_each(:queues))
      and (workflow, version) in (
        select json_extract(value, '$[0]'), json_extract(value, '$[1]') from json_each(:workflows)
      )
      and (refused is null or not json_valid(refused) or not exists (select 1 from json_each(refused) where value = :build))
)
order by +priority desc, created_at, id
limit :limit;

-- name: claimable_suspects
-- The same of what may have killed its workers: running with a crash, or two of them.
select id, owner is not null as orphaned, priority, created_at from workflow_executions
where crashes > 0 and status in ('pending', 'waiting', 'running', 'rolling_back')
  and case status
    when 'running' then owner in (select id from workers where state <> 'live')
    when 'rolling_back' then (crashes >= 2 and wake_at <= :now)
        or coalesce(owner in (select id from workers where state <> 'live'), false)
    when 'waiting' then crashes >= 2 and wake_at <= :now
    else crashes >= 2 and (wake_at is null or wake_at <= :now)
  end
  and queue in (select value from json_each(:queues))
  and (workflow, version) in (
    select json_extract(value, '$[0]'), json_extract(value, '$[1]') from json_each(:workflows)
  )
  and (refused is null or not json_valid(refused) or not exists (select 1 from json_each(refused) where value = :build))
order by priority desc, created_at, id
limit :limit;

-- name: places
-- These executions, as limits see them.
select id, attributes, started_at from workflow_executions where id in (select value from json_each(?));

-- name: running_places
-- What of a queue is in somebody's memory.
select id, attributes, started_at from workflow_executions
where owner is not null and status = 'running' and queue = :queue;

-- name: recent_places
-- What of a queue was first claimed since then, at most so many.
select id, attributes, started_at from workflow_executions
where queue = :queue and started_at is not null and started_at > :since
limit :most;

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
    status = case when status = 'rolling_back' then status else 'running' end,
    owner = :worker, fence = fence + 1, wake_at = null, updated_at = :now,
    started_at = coalesce(started_at, :now)
where id = :id;

-- name: next_wake
-- The earliest time at which something is due.
select wake_at from workflow_executions
where status in ('pending', 'waiting', 'rolling_back') and wake_at is not null
order by wake_at limit 1;

-- Reads of the owner -------------------------------------------------------------------------------------------

-- name: load
-- The journals behind what a restart made void, without what is folded: inner entries of a body whose outcome is
-- recorded, before the first cut.
select
    entry.execution_id, entry.seq, entry.generation, entry.key, entry.kind, entry.status, entry.attempt, entry.fence,
    entry.parent_key, entry.input, entry.output, entry.error, entry.encoding, entry.checksum, entry.build,
    entry.started_at, entry.completed_at
from (select distinct value as id from json_each(:ids)) as wanted
left join workflow_executions as execution on execution.id = wanted.id
cross join step_executions as entry
where entry.execution_id = wanted.id and entry.seq > coalesce(execution.base_seq, 0)
  and (
    entry.parent_key is null
    or execution.generation > 0
    or (entry.execution_id, entry.parent_key) not in (
        select execution_id, key from step_executions as whole
        where execution_id in (select value from json_each(:ids))
          and kind not in ('intent', 'attempt')
          and status in ('completed', 'failed')
          and (execution_id, key) in (
              select execution_id, parent_key from step_executions
              where execution_id in (select value from json_each(:ids)) and parent_key is not null
          )
          and seq > coalesce((select base_seq from workflow_executions where id = whole.execution_id), 0)
    )
  )
order by entry.execution_id, entry.seq;

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

-- name: decisions_of
-- The decisions about these executions' requests.
select * from approval_decisions
where request_id in (select id from approval_requests where execution_id in (select value from json_each(?)))
order by request_id, ordinal;

-- name: events_of
-- What was done to these executions from outside.
select * from audit_events where execution_id in (select value from json_each(?)) order by execution_id, ordinal;

-- name: count_events
-- How much was done to it.
select count(*) from audit_events where execution_id = ?;

-- name: actions_of
-- What undoes them.
select * from rollback_actions where execution_id in (select value from json_each(?))
order by execution_id, generation, seq desc;

-- name: snapshots_of
-- Their states.
select * from state_snapshots where execution_id in (select value from json_each(?)) order by execution_id, seq, branch;

-- name: nudged
-- The nudges of what a worker owns.
select id, nudges from workflow_executions where owner = ?;

-- Deliveries ---------------------------------------------------------------------------------------------------

-- name: request
-- One request.
select * from approval_requests where id = ?;

-- name: standing
-- What a delivery looks at: status, parent, whether a living worker owns it, wish, fence, nudges and generation.
select
    status, parent_id, owner in (select id from workers where state = 'live') as owned, wish, fence, nudges, generation
from workflow_executions where id = ?;

-- name: decide_request
-- The first answer, or the expiry.
update approval_requests set
    status = :status, answer = :answer, answered_by = :by, answered_via = :via, checksum = :checksum, decided_at = :now
where id = :id;

-- name: take_part_in_request
-- Somebody's part in it. What is null of the last four stays as it is.
update approval_requests set
    status = :status,
    answer = :answer,
    answered_by = :by,
    answered_via = :via,
    decided_at = case when :status = 'open' then null else :now end,
    checksum = coalesce(:checksum, checksum),
    policy = coalesce(:policy, policy),
    assignee = coalesce(:assignee, assignee),
    expires_at = coalesce(:expires_at, expires_at)
where id = :id;

-- name: roll_back_execution
-- It is to be rolled back by whoever claims it, now.
update workflow_executions set
    status = 'rolling_back', owner = null, nudges = nudges + 1, crashes = 0, wake_at = :now, updated_at = :now,
    ended_at = null
where id = :id;

-- name: message_exists
-- Whether a message was delivered.
select 1 from messages where id = ?;

-- name: count_waiting
-- How many messages of an execution wait to be received.
select count(*) from messages where execution_id = ? and taken_seq is null;

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

-- name: pause_execution
-- The same for a wish to pause.
update workflow_executions set
    status = 'paused', owner = null, fence = fence + 1, wake_at = null, reason = wish_reason,
    updated_at = :now, ended_at = null
where id = :id;

-- name: revive_execution
-- The end of its journal was cut off: it goes on from there.
update workflow_executions set
    status = 'pending', fence = fence + 1, nudges = nudges + 1, crashes = 0, checksum = :checksum,
    output = null, error = null, reason = null, wake_at = null, refused = null,
    wish = null, wish_by = null, wish_reason = null, updated_at = :now, ended_at = null
where id = :id;

-- name: free_messages
-- The messages that void entries took.
update messages set taken_seq = null where execution_id = ? and taken_seq >= ?;

-- name: withdraw_requests
-- Nobody waits for their answers any more.
update approval_requests set status = 'withdrawn', decided_at = :now where execution_id = :id and status = 'open';

-- name: resume_execution
-- Somebody has looked after it.
update workflow_executions set
    status = 'pending', nudges = nudges + 1, reason = null, wake_at = null, crashes = 0, refused = null,
    updated_at = :now,
    wish_by = case when wish = 'pause' then null else wish_by end,
    wish_reason = case when wish = 'pause' then null else wish_reason end,
    wish = case when wish = 'pause' then null else wish end
where id = :id;

-- Pruning --------------------------------------------------------------------------------------------------------

-- name: prunable
-- Which of these have ended, as have their parents and children.
select id from workflow_executions as execution
where id in (select value from json_each(?))
  and status in ('completed', 'failed', 'cancelled', 'rolled_back', 'rollback_failed')
  and not exists (
    select 1 from workflow_executions as parent
    where parent.id = execution.parent_id
      and parent.status not in ('completed', 'failed', 'cancelled', 'rolled_back', 'rollback_failed')
  )
  and not exists (
    select 1 from workflow_executions as child
    where child.parent_id = execution.id
      and child.status not in ('completed', 'failed', 'cancelled', 'rolled_back', 'rollback_failed')
  );

-- name: prune_entries
-- Their journals.
delete from step_executions where execution_id in (select value from json_each(?));

-- name: prune_snapshots
-- Their snapshots.
delete from state_snapshots where execution_id in (select value from json_each(?));

-- name: prune_events
-- What was done to them.
delete from audit_events where execution_id in (select value from json_each(?));

-- name: prune_decisions
-- The decisions of their requests: before these.
delete from approval_decisions where request_id in (
    select id from approval_requests where execution_id in (select value from json_each(?))
);

-- name: prune_requests
-- Their requests.
delete from approval_requests where execution_id in (select value from json_each(?));

-- name: prune_actions
-- What undid them.
delete from rollback_actions where execution_id in (select value from json_each(?));

-- name: prune_messages
-- Their messages.
delete from messages where execution_id in (select value from json_each(?));

-- name: prune_chunks
-- Their large values.
delete from payload_chunks where execution_id in (select value from json_each(?));

-- name: prune_executions
-- They themselves.
delete from workflow_executions where id in (select value from json_each(?));

-- Schedules ------------------------------------------------------------------------------------------------------

-- name: put_schedule
-- A new one, or another one of that name.
insert or replace into schedules (
    name, workflow, version, cron, timezone, overlap, backfill, input, queue, paused, next_at, last_at, last_id,
    created_at
) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: schedule_stands
-- Whether a schedule's next time is still what was known.
select 1 from schedules where name = ? and next_at is ?;

-- name: remove_schedule
-- It starts nothing any more.
delete from schedules where name = ?;
