-- What a start or a message in somebody's own transaction writes, on their connection. One statement for all databases;
-- stores/own_connections.py writes the parameters as the driver wants them.

-- name: put_outgoing
-- Ask for a start or a message. It counts once the transaction is committed.
insert into outbox (kind, execution_id, content) values (:kind, :execution_id, :content);
