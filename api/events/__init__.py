"""The ledger of events: delivering it to a webhook."""
