-- The page that the comment named has become a folder.
comment on table lull.sessions is 'One row per chat, room or game; docs/lifecycle.md has its states.';
