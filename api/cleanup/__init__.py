"""The main job: the policies (which rows are stale), the run that deletes these rows, and its report."""
