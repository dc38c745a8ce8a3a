"""Graphs, channels and the execution loop; neither Ray nor a database driver is known here."""
