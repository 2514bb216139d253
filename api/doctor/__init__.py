"""The checks of a deployment."""
