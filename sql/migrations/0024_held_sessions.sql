-- Sessions on hold are in no policy's index. What counts the open sessions of a kind finds them by this one.
create index sessions_held on lull.sessions (kind, status) where hold;
