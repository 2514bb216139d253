"""docs/api.md, written from the routes themselves."""
