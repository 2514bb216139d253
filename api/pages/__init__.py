"""Pages for browsers: the expired page, lull.js, and the files of the demo (which only infra/local serves)."""
