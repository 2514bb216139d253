"""Clients of the API: single files to copy into a project, or to load from it. They import nothing of api."""
