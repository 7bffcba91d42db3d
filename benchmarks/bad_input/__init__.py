"""Bad input, in bulk: every public name of the library is called with input that no caller should give.

    python -m benchmarks.bad_input --cases 100000 --seed 0

Each case takes a call that is right and spoils one argument of it or several (see ``junk``), or the bytes of a file
that is right (see ``spoilt_bytes``); ``outcomes`` judges what came of it. Cases run in forked workers (``worker``), so
that a crash or a loop without end is counted, too.
"""
