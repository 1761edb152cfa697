"""The command line: parse, build the writer, call one workflow, write, exit. No command prints, computes or catches."""
