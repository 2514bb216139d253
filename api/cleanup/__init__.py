"""The main job: which rows are stale, the run that deletes them, and what it says about it."""
