create schema if not exists snapshot;

-- Parts of the snapshot: rows of a kind up to last_id, which follow those of the part before.
create table if not exists snapshot.parts (kind varchar, last_id bigint, key varchar, is_put boolean);

create table if not exists snapshot.nearest as from batch_candidates where false;

-- Left by a run that was killed before it had put them.
delete from snapshot.parts where not is_put;
