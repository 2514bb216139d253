"""`make demo`: a cleanup on about 2,000 sessions, over HTTP, with the proof of what was kept."""
