"""Files whose bytes go between a client and Storage: what sessions and the library share."""
