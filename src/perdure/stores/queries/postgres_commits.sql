-- Commits to PostgreSQL, and how one is settled whose answer is missing. The rules are told in postgres.sql.

-- name: commit_entry
-- A batch that is one entry: no row says that the worker is dead.
with me as materialized (
    select from workers where id = $1 and epoch = $2 and state = 'live' for no key update
)
insert into step_executions (
    execution_id, seq, generation, key, kind, status, attempt, fence, parent_key, input, output, error, encoding,
    checksum, build, started_at, completed_at
)
select
    $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17,
    perdure_time($18::bigint),
    perdure_time($19::bigint)
from me
returning true;

-- name: commit_entries
-- A batch of entries only, one text a column ($3 separates, 1E is null). Gives whether the worker is alive.
with me as materialized (
    select from workers where id = $1 and epoch = $2 and state = 'live' for no key update
), recorded as (
    insert into step_executions (
        execution_id, seq, generation, key, kind, status, attempt, fence, parent_key, input, output, error, encoding,
        checksum, build, started_at, completed_at
    )
    select
        e.execution_id, e.seq, e.generation, e.key, e.kind, e.status, e.attempt, e.fence, e.parent_key,
        e.input, e.output, e.error, e.encoding, e.checksum, e.build,
        perdure_time(e.started_at),
        perdure_time(e.completed_at)
    from unnest(
        string_to_array($4::text, $3::text), $5::text::bigint[], $6::text::integer[],
        string_to_array($7::text, $3), string_to_array($8::text, $3), string_to_array($9::text, $3),
        $10::text::integer[], $11::text::bigint[], string_to_array($12::text, $3, E'\x1e'),
        string_to_array($13::text, $3, E'\x1e'), string_to_array($14::text, $3, E'\x1e'),
        string_to_array($15::text, $3, E'\x1e'),
        string_to_array($16::text, $3), $17::text::bigint[], string_to_array($18::text, $3),
        $19::text::bigint[], $20::text::bigint[]
    ) as e (
        execution_id, seq, generation, key, kind, status, attempt, fence, parent_key, input, output, error, encoding,
        checksum, build, started_at, completed_at
    )
    where exists (select from me) and e.execution_id is not null
)
select exists (select from me);

-- name: commit_plain
-- A batch of entries that differ in nothing but ids, keys, payloads and times, as most do: what they share is sent once.
with me as materialized (
    select from workers where id = $1 and epoch = $2 and state = 'live' for no key update
), recorded as (
    insert into step_executions (
        execution_id, seq, generation, key, kind, status, attempt, fence, parent_key, input, output, error, encoding,
        checksum, build, started_at, completed_at
    )
    select
        e.execution_id, e.seq, $6::integer, e.key, $8, $9, $10::integer, $11::bigint, null,
        e.input, e.output, null, $14, e.checksum, $16,
        perdure_time(e.started_at),
        perdure_time(e.completed_at)
    from unnest(
        string_to_array($4::text, $3::text), $5::text::bigint[], string_to_array($7::text, $3),
        string_to_array($12::text, $3), string_to_array($13::text, $3), $15::text::bigint[],
        $17::text::bigint[], $18::text::bigint[]
    ) as e (execution_id, seq, key, input, output, checksum, started_at, completed_at)
    where exists (select from me)
)
select exists (select from me);

-- name: commit_creates
-- A batch of creates only. Answers as `commit_batch` does.
with me as materialized (
    select from workers where id = $1 and epoch = $2 and state = 'live' for no key update
), created as (
    insert into workflow_executions (
        id, workflow, version, status, queue, priority, owner, fence, nudges, generation, input, output, error,
        encoding, checksum, wish, wish_by, wish_reason, reason, wake_at, parent_id, parent_key, started_by, attributes,
        build, crashes, crash_seq, token, created_at, updated_at, ended_at, started_at, base_seq, refused
    )
    select
        c.id, c.workflow, c.version, c.status, c.queue, c.priority, c.owner, c.fence, c.nudges, c.generation, c.input,
        c.output, c.error, c.encoding, c.checksum, c.wish, c.wish_by, c.wish_reason, c.reason,
        perdure_time(c.wake_at),
        c.parent_id, c.parent_key, c.started_by, c.attributes, c.build, c.crashes, c.crash_seq, $3,
        perdure_time(c.created_at),
        perdure_time(c.updated_at),
        perdure_time(c.ended_at),
        perdure_time(c.started_at),
        c.base_seq, c.refused
    from json_to_recordset($4::text::json) as c (
        id text, workflow text, version integer, status text, queue text, priority integer, owner bigint, fence bigint,
        nudges bigint, generation integer, input text, output text, error text, encoding text, checksum bigint,
        wish text, wish_by text, wish_reason text, reason text, wake_at bigint, parent_id text, parent_key text,
        started_by text, attributes text, build text, crashes integer, crash_seq bigint, created_at bigint,
        updated_at bigint, ended_at bigint, started_at bigint, base_seq bigint, refused text
    )
    where exists (select from me)
    order by c.id collate "C"
    on conflict (id) do nothing
    returning id
)
select
    exists (select from me) as alive,
    array(select id from created) as created,
    '{}'::text[] as changed,
    '{}'::text[] as verdicts;

-- name: commit_changes
-- A batch of changes, and perhaps of entries. Answers as `commit_batch` does.
with me as materialized (
    select from workers where id = $1 and epoch = $2 and state = 'live' for no key update
), asked as materialized (
    select * from json_to_recordset($23::text::json) as c (
        execution_id text, fence bigint, nudges bigint, status text, at bigint, output text, error text,
        checksum bigint, reason text, wake_at bigint, parent_id text, input text, generation integer, base_seq bigint,
        attributes text, refused text, by text
    )
), locked as materialized (
    select w.id, w.fence, w.nudges
    from workflow_executions w
    where w.id = any($21::text[]) and exists (select from me)
    order by w.id
    for no key update
), judged as materialized (
    select a.*, case
        when l.id is null then 'gone'
        when l.fence <> a.fence then 'fenced'
        when a.status in ('waiting', 'rollback_failed') and l.nudges <> a.nudges then 'nudged'
        else 'ok'
    end as verdict
    from asked a
    left join locked l on l.id = a.execution_id
), refused as materialized (
    select execution_id from judged where verdict in ('gone', 'fenced')
), changed as (
    update workflow_executions w
    set status = j.status,
        owner = case when j.status = 'running' or (j.status = 'rolling_back' and j.wake_at is null) then w.owner end,
        output = case when j.checksum is null then w.output else j.output end,
        error = case when j.checksum is null then w.error else j.error end,
        checksum = coalesce(j.checksum, w.checksum),
        reason = j.reason,
        wake_at = perdure_time(j.wake_at),
        token = $22,
        updated_at = perdure_time(j.at),
        input = coalesce(j.input, w.input),
        generation = coalesce(j.generation, w.generation),
        base_seq = coalesce(j.base_seq, w.base_seq),
        attributes = coalesce(j.attributes, w.attributes),
        refused = coalesce(j.refused, w.refused),
        wish = case when j.status = 'cancelled' then 'cancel' else w.wish end,
        wish_by = case when j.status = 'cancelled' then j.by else w.wish_by end,
        wish_reason = case when j.status = 'cancelled' then j.reason else w.wish_reason end,
        ended_at = case
            when j.status in ('completed', 'failed', 'cancelled', 'rolled_back', 'rollback_failed')
            then perdure_time(j.at)
        end
    from judged j
    where w.id = j.execution_id and j.verdict = 'ok'
), nudged as (
    update workflow_executions w
    set nudges = w.nudges + j.times,
        status = case when w.status = 'waiting' then 'pending' else w.status end,
        wake_at = case when w.status = 'waiting' then null else w.wake_at end,
        updated_at = perdure_time($24::bigint)
    from (
        select parent_id, count(*) as times
        from judged
        where verdict = 'ok' and parent_id is not null
            and status in ('completed', 'failed', 'cancelled', 'rolled_back', 'rollback_failed')
        group by parent_id
    ) j
    where w.id = j.parent_id
), recorded as (
    insert into step_executions (
        execution_id, seq, generation, key, kind, status, attempt, fence, parent_key, input, output, error, encoding,
        checksum, build, started_at, completed_at
    )
    select
        e.execution_id, e.seq, e.generation, e.key, e.kind, e.status, e.attempt, e.fence, e.parent_key,
        e.input, e.output, e.error, e.encoding, e.checksum, e.build,
        perdure_time(e.started_at),
        perdure_time(e.completed_at)
    from unnest(
        string_to_array($4::text, $3::text), $5::text::bigint[], $6::text::integer[],
        string_to_array($7::text, $3), string_to_array($8::text, $3), string_to_array($9::text, $3),
        $10::text::integer[], $11::text::bigint[], string_to_array($12::text, $3, E'\x1e'),
        string_to_array($13::text, $3, E'\x1e'), string_to_array($14::text, $3, E'\x1e'),
        string_to_array($15::text, $3, E'\x1e'),
        string_to_array($16::text, $3), $17::text::bigint[], string_to_array($18::text, $3),
        $19::text::bigint[], $20::text::bigint[]
    ) as e (
        execution_id, seq, generation, key, kind, status, attempt, fence, parent_key, input, output, error, encoding,
        checksum, build, started_at, completed_at
    )
    where exists (select from me) and e.execution_id is not null
        and e.execution_id not in (select execution_id from refused)
)
select
    exists (select from me) as alive,
    '{}'::text[] as created,
    array(select execution_id from judged order by execution_id) as changed,
    array(select verdict from judged order by execution_id) as verdicts;

-- name: commit_batch
-- A batch of everything. Gives whether the worker is alive, the ids created, the changed ids and their verdicts.
with me as materialized (
    select from workers where id = $1 and epoch = $2 and state = 'live' for no key update
), asked as materialized (
    select * from json_to_recordset($23::text::json) as c (
        execution_id text, fence bigint, nudges bigint, status text, at bigint, output text, error text,
        checksum bigint, reason text, wake_at bigint, parent_id text, input text, generation integer, base_seq bigint,
        attributes text, refused text, by text
    )
), locked as materialized (
    select w.id, w.fence, w.nudges
    from workflow_executions w
    where w.id = any($21::text[]) and exists (select from me)
    order by w.id
    for no key update
), judged as materialized (
    select a.*, case
        when l.id is null then 'gone'
        when l.fence <> a.fence then 'fenced'
        when a.status in ('waiting', 'rollback_failed') and l.nudges <> a.nudges then 'nudged'
        else 'ok'
    end as verdict
    from asked a
    left join locked l on l.id = a.execution_id
), refused as materialized (
    select execution_id from judged where verdict in ('gone', 'fenced')
), changed as (
    update workflow_executions w
    set status = j.status,
        owner = case when j.status = 'running' or (j.status = 'rolling_back' and j.wake_at is null) then w.owner end,
        output = case when j.checksum is null then w.output else j.output end,
        error = case when j.checksum is null then w.error else j.error end,
        checksum = coalesce(j.checksum, w.checksum),
        reason = j.reason,
        wake_at = perdure_time(j.wake_at),
        token = $22,
        updated_at = perdure_time(j.at),
        input = coalesce(j.input, w.input),
        generation = coalesce(j.generation, w.generation),
        base_seq = coalesce(j.base_seq, w.base_seq),
        attributes = coalesce(j.attributes, w.attributes),
        refused = coalesce(j.refused, w.refused),
        wish = case when j.status = 'cancelled' then 'cancel' else w.wish end,
        wish_by = case when j.status = 'cancelled' then j.by else w.wish_by end,
        wish_reason = case when j.status = 'cancelled' then j.reason else w.wish_reason end,
        ended_at = case
            when j.status in ('completed', 'failed', 'cancelled', 'rolled_back', 'rollback_failed')
            then perdure_time(j.at)
        end
    from judged j
    where w.id = j.execution_id and j.verdict = 'ok'
), nudged as (
    update workflow_executions w
    set nudges = w.nudges + j.times,
        status = case when w.status = 'waiting' then 'pending' else w.status end,
        wake_at = case when w.status = 'waiting' then null else w.wake_at end,
        updated_at = perdure_time($24::bigint)
    from (
        select parent_id, count(*) as times
        from judged
        where verdict = 'ok' and parent_id is not null
            and status in ('completed', 'failed', 'cancelled', 'rolled_back', 'rollback_failed')
        group by parent_id
    ) j
    where w.id = j.parent_id
), created as (
    insert into workflow_executions (
        id, workflow, version, status, queue, priority, owner, fence, nudges, generation, input, output, error,
        encoding, checksum, wish, wish_by, wish_reason, reason, wake_at, parent_id, parent_key, started_by, attributes,
        build, crashes, crash_seq, token, created_at, updated_at, ended_at, started_at, base_seq, refused
    )
    select
        c.id, c.workflow, c.version, c.status, c.queue, c.priority, c.owner, c.fence, c.nudges, c.generation, c.input,
        c.output, c.error, c.encoding, c.checksum, c.wish, c.wish_by, c.wish_reason, c.reason,
        perdure_time(c.wake_at),
        c.parent_id, c.parent_key, c.started_by, c.attributes, c.build, c.crashes, c.crash_seq, $22,
        perdure_time(c.created_at),
        perdure_time(c.updated_at),
        perdure_time(c.ended_at),
        perdure_time(c.started_at),
        c.base_seq, c.refused
    from json_to_recordset($25::text::json) as c (
        id text, workflow text, version integer, status text, queue text, priority integer, owner bigint, fence bigint,
        nudges bigint, generation integer, input text, output text, error text, encoding text, checksum bigint,
        wish text, wish_by text, wish_reason text, reason text, wake_at bigint, parent_id text, parent_key text,
        started_by text, attributes text, build text, crashes integer, crash_seq bigint, created_at bigint,
        updated_at bigint, ended_at bigint, started_at bigint, base_seq bigint, refused text
    )
    where exists (select from me) and (select count(*) from locked) >= 0
    order by c.id collate "C"
    on conflict (id) do nothing
    returning id
), recorded as (
    insert into step_executions (
        execution_id, seq, generation, key, kind, status, attempt, fence, parent_key, input, output, error, encoding,
        checksum, build, started_at, completed_at
    )
    select
        e.execution_id, e.seq, e.generation, e.key, e.kind, e.status, e.attempt, e.fence, e.parent_key,
        e.input, e.output, e.error, e.encoding, e.checksum, e.build,
        perdure_time(e.started_at),
        perdure_time(e.completed_at)
    from unnest(
        string_to_array($4::text, $3::text), $5::text::bigint[], $6::text::integer[],
        string_to_array($7::text, $3), string_to_array($8::text, $3), string_to_array($9::text, $3),
        $10::text::integer[], $11::text::bigint[], string_to_array($12::text, $3, E'\x1e'),
        string_to_array($13::text, $3, E'\x1e'), string_to_array($14::text, $3, E'\x1e'),
        string_to_array($15::text, $3, E'\x1e'),
        string_to_array($16::text, $3), $17::text::bigint[], string_to_array($18::text, $3),
        $19::text::bigint[], $20::text::bigint[]
    ) as e (
        execution_id, seq, generation, key, kind, status, attempt, fence, parent_key, input, output, error, encoding,
        checksum, build, started_at, completed_at
    )
    where exists (select from me) and e.execution_id is not null
        and e.execution_id not in (select execution_id from refused)
), requested as (
    insert into approval_requests (
        id, execution_id, key, generation, kind, message, details, schema, default_answer, assignee, status, answer,
        answered_by, answered_via, checksum, expires_at, created_at, decided_at, policy, digest
    )
    select
        r.id, r.execution_id, r.key, r.generation, r.kind, r.message, r.details, r.schema, r.default_answer,
        r.assignee, r.status, r.answer, r.answered_by, r.answered_via, r.checksum,
        perdure_time(r.expires_at),
        perdure_time(r.created_at),
        perdure_time(r.decided_at),
        r.policy, r.digest
    from json_to_recordset($26::text::json) as r (
        id text, execution_id text, key text, generation integer, kind text, message text, details text, schema text,
        default_answer text, assignee text, status text, answer text, answered_by text, answered_via text,
        checksum bigint, expires_at bigint, created_at bigint, decided_at bigint, policy text, digest text
    )
    where exists (select from me) and r.execution_id not in (select execution_id from refused)
    order by r.id collate "C"
    on conflict (id) do nothing
), acted as (
    insert into rollback_actions (
        execution_id, generation, seq, key, undo, status, attempt, output, error, encoding, checksum, resolved_by,
        started_at, completed_at
    )
    select
        a.execution_id, a.generation, a.seq, a.key, a.undo, a.status, a.attempt, a.output, a.error, a.encoding,
        a.checksum, a.resolved_by, perdure_time(a.started_at), perdure_time(a.completed_at)
    from json_to_recordset($32::text::json) as a (
        execution_id text, generation integer, seq bigint, key text, undo text, status text, attempt integer,
        output text, error text, encoding text, checksum bigint, resolved_by text, started_at bigint,
        completed_at bigint
    )
    where exists (select from me) and a.execution_id not in (select execution_id from refused)
    on conflict (execution_id, generation, seq) do update set
        undo = excluded.undo,
        status = excluded.status,
        attempt = excluded.attempt,
        output = excluded.output,
        error = excluded.error,
        encoding = excluded.encoding,
        checksum = excluded.checksum,
        resolved_by = excluded.resolved_by,
        started_at = excluded.started_at,
        completed_at = excluded.completed_at
), pictured as (
    insert into state_snapshots (
        execution_id, seq, branch, generation, name, cause, kind, base_digest, digest, state, encoding, checksum,
        created_at
    )
    select
        s.execution_id, s.seq, s.branch, s.generation, s.name, s.cause, s.kind, s.base_digest, s.digest, s.state,
        s.encoding, s.checksum, perdure_time(s.created_at)
    from json_to_recordset($33::text::json) as s (
        execution_id text, seq bigint, branch text, generation integer, name text, cause text, kind text,
        base_digest text, digest text, state text, encoding text, checksum bigint, created_at bigint
    )
    where exists (select from me) and s.execution_id not in (select execution_id from refused)
    on conflict (execution_id, seq, branch) do nothing -- a batch may come again
), closed as (
    update approval_requests r
    set status = 'withdrawn', decided_at = perdure_time($24)
    where r.id = any($27::text[]) and r.status = 'open'
        and exists (select from me) and r.execution_id not in (select execution_id from refused)
), taken as (
    -- A message may be freed by one entry and taken by another of the same batch: the later one stands.
    update messages m
    set taken_seq = (
        select t.seq from unnest($28::text[], $29::text::bigint[]) with ordinality as t (id, seq, place)
        where t.id = m.id order by t.place desc limit 1
    )
    where m.id = any(array(
            select unnest($28::text[])
            union
            select f.id from messages f
            join unnest($30::text[], $31::text::bigint[]) as u (execution_id, seq)
                on f.execution_id = u.execution_id and f.taken_seq = u.seq
        ))
        and exists (select from me) and m.execution_id not in (select execution_id from refused)
)
select
    exists (select from me) as alive,
    array(select id from created) as created,
    array(select execution_id from judged order by execution_id) as changed,
    array(select verdict from judged order by execution_id) as verdicts;

-- name: lock_worker
-- Waits for a commit of this worker that is under way.
select epoch, state from workers where id = $1 for no key update;

-- name: settle_executions
-- What settling a batch needs of the executions that it created or changed.
select id, fence, token, created_at from workflow_executions where id = any($1::text[]);

-- name: settle_entries
-- Which of these entries stand, as the batch wrote them.
select distinct e.execution_id
from unnest($1::text[], $2::bigint[], $3::bigint[], $4::text[]) as t (execution_id, seq, fence, key)
join step_executions e on e.execution_id = t.execution_id and e.seq = t.seq
where e.fence = t.fence and e.key = t.key;
