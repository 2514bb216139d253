-- What the HTTP side counts and cleans beyond chats: drafts of rooms and games that were never opened.

-- One partial index per policy (unopened-rooms, unopened-games), as those of 0001.
create index sessions_unopened_rooms on lull.sessions (last_activity_at, id)
  where kind = 'room' and status = 'draft' and not hold;
create index sessions_unopened_games on lull.sessions (last_activity_at, id)
  where kind = 'game' and status = 'draft' and not hold;
