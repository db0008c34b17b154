"""The package of the service."""
