"""`make demo`: a cleanup on about 2,000 sessions over HTTP, and the proof that all others stayed."""
