-- What PostgreSQL adds to tables.sql: who may see what, and the rights of the role
-- that the nodes work as.

alter table lists enable row level security;
alter table items enable row level security;
alter table costs enable row level security;

-- Neither holds for somebody of whom it was never said who they are: then the
-- setting is NULL, or empty.
create policy known on lists using (current_setting('board.role', true) in ('guest', 'manager'));
create policy known on items using (current_setting('board.role', true) in ('guest', 'manager'));
create policy managers on costs using (current_setting('board.role', true) = 'manager');

grant usage on schema entity_sync_board to board_app;
grant select, insert, update, delete on lists, items, costs to board_app;
grant select, update, delete on entity_sync_outbox to board_app; -- to relay; the triggers write it with its owner's rights
