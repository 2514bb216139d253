"""`python -m infra doctor`: seed 003's deployment checklist and troubleshooting as checks that run."""
