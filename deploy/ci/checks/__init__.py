"""Checks of the files in deploy/: each is a function from a tree of files to a list of problems."""
