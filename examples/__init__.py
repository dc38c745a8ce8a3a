"""Programs that use perdure as its users do."""
