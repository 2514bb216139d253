"""Lull on AWS Lambda."""
