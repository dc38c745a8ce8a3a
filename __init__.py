"""Perdure: durable graphs on Ray."""

__all__: list[str] = []
