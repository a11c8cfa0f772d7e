-- Rollbacks are claimed like what is due; approvals say who decides them; what people do from outside is kept, chained.
-- oldest writer: 1

alter table approval_requests add column policy longtext;
alter table approval_requests add column digest varchar(255);
alter table approval_decisions add column execution_id varchar(255);

create table audit_events (
    execution_id varchar(255) not null,
    ordinal bigint not null,
    request_id varchar(768),
    what varchar(255) not null,
    actor text,
    via text,
    comment longtext,
    details longtext,
    previous varchar(255) not null,
    digest varchar(255) not null,
    created_at datetime(6) not null,
    primary key (execution_id, ordinal)
) engine = innodb default charset = utf8mb4 collate = utf8mb4_nopad_bin comment = 'perdure';
