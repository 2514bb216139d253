"""The event log: delivery to a webhook."""
