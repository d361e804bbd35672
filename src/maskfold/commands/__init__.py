"""The subcommands: each module parses its command line, calls one function and prints where the result is."""
