"""The operator's side of Viaduct: the `viaduct` command line, on top of the typed client alone."""
