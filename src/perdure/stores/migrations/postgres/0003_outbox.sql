-- Starts and messages that are part of somebody's own transaction: a row is written there, without a lock on anything,
-- and a worker delivers it once that transaction is committed.
-- oldest writer: 1

create table outbox (
    id bigint generated always as identity primary key,
    kind text not null check (kind in ('start', 'message')),
    execution_id text collate "C" not null,
    content text not null,
    refused text,
    created_at timestamptz not null default clock_timestamp()
);
