"""The library: documents and files that outlive a session, and which of them a session used."""
