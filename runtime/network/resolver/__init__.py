"""The resolver: a small DNS server that always runs, answers for containers' names and forwards the rest.

One process and one thread around a selector; no state but the facts on disk, so that it may be killed
and started at any time. It reads and writes the few parts of DNS messages it needs itself: a DNS library
would double its memory, on every host, for as long as the host runs.
"""
