-- Where a worker holds the lock that shows that it lives: a start of a server. Null here, where lock files show it.
-- oldest writer: 1

alter table workers add column presence text;
