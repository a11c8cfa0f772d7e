-- Lists stay quick where there are millions. An index that begins with what is asked for, and goes on by age, gives a page in
-- its order.
-- oldest writer: 1

create index workflow_executions_of_workflow on workflow_executions (workflow, created_at, id);
create index workflow_executions_of_status on workflow_executions (status, created_at, id);
create index workflow_executions_of_queue on workflow_executions (queue, created_at, id);
create index workflow_executions_of_starter on workflow_executions (started_by(64), created_at);
