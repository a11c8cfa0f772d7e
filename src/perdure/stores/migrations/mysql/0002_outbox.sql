-- Starts and messages that are part of somebody's own transaction: a row is written there, without a lock on anything,
-- and a worker delivers it once that transaction is committed.
-- oldest writer: 1

create table outbox (
    id bigint not null auto_increment primary key,
    kind varchar(20) not null check (kind in ('start', 'message')),
    execution_id varchar(255) not null,
    content longtext not null,
    refused text,
    created_at datetime(6) not null default (utc_timestamp(6))
) engine = innodb default charset = utf8mb4 collate = utf8mb4_nopad_bin comment = 'perdure';
