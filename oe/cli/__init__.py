"""The command line: thin, one command per file, each loaded when it is called."""
