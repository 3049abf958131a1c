"""What the commands do, in Python; `posekit` itself offers the functions by the commands' names.

A module a command: importing one of them does not import the others.
"""
