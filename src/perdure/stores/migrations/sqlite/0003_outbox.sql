-- Starts and messages that are part of somebody's own transaction: a row is written there, without a lock on anything,
-- and a worker delivers it once that transaction is committed.
-- oldest writer: 1

create table outbox (
    id integer primary key autoincrement,
    kind text not null check (kind in ('start', 'message')),
    execution_id text not null,
    content text not null,
    refused text,
    created_at text not null default (strftime('%Y-%m-%dT%H:%M:%f000Z', 'now'))
);
