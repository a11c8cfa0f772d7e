-- Rollbacks are claimed like what is due; approvals say who decides them; what people do from outside is kept, chained.
-- oldest writer: 1

drop index workflow_executions_wake;
create index workflow_executions_wake on workflow_executions (wake_at)
    where wake_at is not null and status in ('pending', 'waiting', 'rolling_back');

drop index workflow_executions_crashed;
create index workflow_executions_crashed on workflow_executions (crashes)
    where crashes > 0 and status in ('pending', 'waiting', 'running', 'rolling_back');

alter table approval_requests add column policy text;
alter table approval_requests add column digest text;
alter table approval_decisions add column execution_id text;

create table audit_events (
    execution_id text not null,
    ordinal integer not null,
    request_id text,
    what text not null,
    actor text,
    via text,
    comment text,
    details text,
    previous text not null,
    digest text not null,
    created_at text not null,
    primary key (execution_id, ordinal)
) without rowid;
