"""Benchmarks, run by `make bench`: one file for each subject, listed in `__main__`, with a `measure` that returns rows.

What is measured runs in a child process of its own (`child`), as it does in production, and so does what it is compared
with: a floor, the least that the same work could cost, measured in the same run and in turn with it. No benchmark fails
because of time: machines differ, ratios less so.
"""
