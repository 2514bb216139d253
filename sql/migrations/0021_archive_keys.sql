-- One wide index less: by page, of which the entries of one page share a value, keys are found in an index of 3 bytes a
-- key instead of 87.
alter table lull.archive_keys drop constraint archive_keys_pkey;
drop index lull.archive_keys_key;
alter table lull.archive_keys add primary key (target, key, page);
create index archive_keys_page on lull.archive_keys (page);
