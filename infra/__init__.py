"""Run, migrate and deploy Lull; nothing in here is part of the deployed API."""
