-- How many executions have ended is kept, not counted: there may be millions. There are no triggers here, which only an
-- administrator may make where a server keeps a binary log: each of our statements that ends an execution, begins it anew
-- or removes it adds a row, in the same transaction (stores/mysql_tallies.py). None is touched: commits would wait for one
-- another. Now and then they are folded.
-- An older library adds none. `workers.counts` says whose does: as long as there is a worker whose does not, nothing is
-- believed of what stands here; once the last of them has left, what is missing is added.
-- oldest writer: 1

create table execution_tallies (
    id bigint not null auto_increment primary key,
    workflow varchar(255) not null,
    version int not null,
    queue varchar(255) not null,
    status varchar(20) not null,
    number bigint not null
) engine = innodb default charset = utf8mb4 collate = utf8mb4_nopad_bin comment = 'perdure';

alter table workers add column counts boolean not null default false;

-- What is missing, so that it does no harm when it is said again.
insert into execution_tallies (workflow, version, queue, status, number)
select c.workflow, c.version, c.queue, c.status, sum(c.number)
from (
    select w.workflow, w.version, w.queue, w.status, count(*) as number
    from workflow_executions w
    where w.status in ('completed', 'failed', 'cancelled', 'rolled_back', 'rollback_failed')
    group by w.workflow, w.version, w.queue, w.status
    union all
    select t.workflow, t.version, t.queue, t.status, -sum(t.number)
    from execution_tallies t
    group by t.workflow, t.version, t.queue, t.status
) c
group by c.workflow, c.version, c.queue, c.status
having sum(c.number) <> 0;
