-- Rollbacks are claimed like what is due; approvals say who decides them; what people do from outside is kept, chained.
-- oldest writer: 1

drop index workflow_executions_due;
create index workflow_executions_due on workflow_executions (wake_at)
    where status in ('pending', 'waiting', 'rolling_back') and wake_at is not null;

drop index workflow_executions_crashed;
create index workflow_executions_crashed on workflow_executions (queue)
    where crashes > 0 and status in ('pending', 'waiting', 'running', 'rolling_back');

alter table approval_requests add column policy text;
alter table approval_requests add column digest text;
alter table approval_decisions add column execution_id text collate "C";

create table audit_events (
    execution_id text collate "C" not null,
    ordinal bigint not null,
    request_id text collate "C",
    what text not null,
    actor text,
    via text,
    comment text,
    details text,
    previous text not null,
    digest text not null,
    created_at timestamptz not null,
    primary key (execution_id, ordinal)
);
