-- Where a worker holds the lock that shows that it lives: a start of a server. Null: it is known by its lease alone.
-- oldest writer: 1

alter table workers add column presence text;
