-- A million finished executions. Mostly completed, 1 in 50 failed; 20 workflows, and one that ran 10 times; a queue that
-- had 10; 1 in 10 with a customer and somebody who started it; 1 in 20 a child; a second apart, the last one just now.
insert into workflow_executions (
    id, workflow, version, status, queue, priority, fence, nudges, generation, input, output, encoding, checksum,
    reason, parent_id, parent_key, started_by, attributes, build, crashes, crash_seq, token, created_at, updated_at,
    ended_at, started_at
)
select
    printf('order-%08d', n),
    case when n % 100000 = 77 then 'rare' else 'w' || (n % 20) end,
    1 + n % 2,
    case n % 100 when 3 then 'failed' when 53 then 'failed' when 7 then 'cancelled' else 'completed' end,
    case when n % 100000 = 99 then 'odd' when n % 10 = 9 then 'vip' else 'default' end,
    0, 1, 0, 0, '{"args":[1]}', '"done"', 'json', 1,
    case when n % 100 = 7 then 'customer ' || n || ' left' end,
    case when n % 20 = 5 then printf('order-%08d', n - 1) end,
    case when n % 20 = 5 then 'child#1' end,
    case when n % 10 = 4 then 'user:' || (n % 1000) end,
    case when n % 10 = 4 then '{"customer":' || (n % 100000) || '}' end,
    'b1', 0, 0, 't',
    strftime('%Y-%m-%dT%H:%M:%S.000000Z', 'now', (n - 1000000) || ' seconds'),
    strftime('%Y-%m-%dT%H:%M:%S.000000Z', 'now', (n - 1000000) || ' seconds'),
    strftime('%Y-%m-%dT%H:%M:%S.000000Z', 'now', (n - 1000000) || ' seconds'),
    strftime('%Y-%m-%dT%H:%M:%S.000000Z', 'now', (n - 1000000) || ' seconds')
from (with recursive s (n) as (select 1 union all select n + 1 from s where n < 1000000) select n from s);

insert into approval_requests (
    id, execution_id, key, generation, kind, message, status, answer, checksum, created_at, decided_at
)
select
    printf('order-%08d', n) || ':ask#1', printf('order-%08d', n), 'ask#1', 0, 'input', 'Go on?',
    'decided', 'true', 1, strftime('%Y-%m-%dT%H:%M:%S.000000Z', 'now', (n - 1000000) || ' seconds'), strftime('%Y-%m-%dT%H:%M:%S.000000Z', 'now')
from (with recursive s (n) as (select 10 union all select n + 10 from s where n < 1000000) select n from s);

