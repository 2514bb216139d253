"""`python -m infra doctor`: the checks of a deployment, printed."""
