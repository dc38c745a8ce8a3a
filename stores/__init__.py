"""Records, their Arrow codec and the stores that keep them; bytes and records are known here, graphs are not."""
