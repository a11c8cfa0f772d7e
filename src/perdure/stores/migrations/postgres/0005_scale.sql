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

-- Attributes as "name=value", each cut to what an index takes: what is found by them is compared in full. As in
-- `perdure_plain`, which cannot be called here: an index's function must not depend on where names are looked up.
create function perdure_pairs(attributes text) returns text[] language plpgsql immutable strict parallel safe as $$
begin
    return array(
        select left(a.key || '=' || a.value::text, 200)
        from json_each(replace(
            replace(
                replace(attributes, repeat(chr(92), 2), chr(31)),
                chr(92) || 'u',
                repeat(chr(92), 2) || 'u'
            ),
            chr(31),
            repeat(chr(92), 4)
        )::json) as a
    );
exception when others then
    return array[]::text[]; -- what cannot be read holds none
end
$$;

create index workflow_executions_attributes on workflow_executions using gin (perdure_pairs(attributes))
    where attributes is not null;
