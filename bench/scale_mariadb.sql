-- A million finished executions. Mostly completed, 1 in 50 failed; 20 workflows, and one that ran 10 times; a queue that
-- had 10; 1 in 10 with a customer and somebody who started it; 1 in 20 a child; a second apart, the last one just now.
insert into workflow_executions (
    id, workflow, version, status, queue, priority, fence, nudges, generation, input, output, encoding, checksum,
    reason, parent_id, parent_key, started_by, attributes, build, crashes, crash_seq, token, created_at, updated_at,
    ended_at, started_at
)
select
    concat('order-', lpad(n, 8, '0')),
    case when n % 100000 = 77 then 'rare' else concat('w', n % 20) end,
    1 + n % 2,
    case n % 100 when 3 then 'failed' when 53 then 'failed' when 7 then 'cancelled' else 'completed' end,
    case when n % 100000 = 99 then 'odd' when n % 10 = 9 then 'vip' else 'default' end,
    0, 1, 0, 0, '{"args":[1]}', '"done"', 'json', 1,
    case when n % 100 = 7 then concat('customer ', n, ' left') end,
    case when n % 20 = 5 then concat('order-', lpad(cast(n as signed) - 1, 8, '0')) end,
    case when n % 20 = 5 then 'child#1' end,
    case when n % 10 = 4 then concat('user:', n % 1000) end,
    case when n % 10 = 4 then concat('{"customer":', n % 100000, '}') end,
    'b1', 0, 0, 't',
    utc_timestamp(6) + interval (cast(n as signed) - 1000000) second,
    utc_timestamp(6) + interval (cast(n as signed) - 1000000) second,
    utc_timestamp(6) + interval (cast(n as signed) - 1000000) second,
    utc_timestamp(6) + interval (cast(n as signed) - 1000000) second
from (select seq as n from seq_1_to_1000000) s;

insert into approval_requests (
    id, execution_id, `key`, generation, kind, message, status, answer, checksum, created_at, decided_at
)
select
    concat('order-', lpad(n, 8, '0'), ':ask#1'), concat('order-', lpad(n, 8, '0')), 'ask#1', 0, 'input', 'Go on?',
    'decided', 'true', 1, utc_timestamp(6) + interval (cast(n as signed) - 1000000) second, utc_timestamp(6)
from (select seq as n from seq_10_to_1000000_step_10) s;

analyze table workflow_executions;
analyze table approval_requests;
