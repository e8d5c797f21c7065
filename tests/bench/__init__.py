"""Measurements: what Viaduct costs, as ratios to a bare baseline that runs in the same minutes on the same machine.

    make bench                      all of it, about three minutes, on a stack of its own
    make bench ARGS="requests"      one: requests, attach, links, allocation

Absolute numbers of a shared machine move by a factor of two or three with its load; so every round runs ours and the
baseline one after the other, in turns, and what counts is the ratio. Nothing here asserts on speed.
"""
