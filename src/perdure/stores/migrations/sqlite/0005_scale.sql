-- Lists stay quick where there are millions. Most executions run in the queue "default", unattended, and complete: of the
-- indexes here only one holds them. An index that begins with what is asked for, and goes on by age, gives a page in its order.
-- What they begin with is written as an expression, which lists use and claims do not: else they would draw claims away
-- from the index that gives what is ready in its order.
-- oldest writer: 1

create index workflow_executions_of_workflow on workflow_executions ((workflow || ''), created_at, id);
create index workflow_executions_seldom on workflow_executions ((status || ''), created_at, id)
    where (status || '') not in ('running', 'completed');
create index workflow_executions_of_queue on workflow_executions ((queue || ''), created_at, id)
    where (queue || '') <> 'default';
create index workflow_executions_of_starter on workflow_executions (started_by, created_at, id)
    where started_by is not null;
