"""Measurements: what Viaduct costs, as ratios to a bare baseline that runs in the same minutes on the same machine.

    make bench                          about eight minutes, on a stack of its own: requests, attach, links,
                                        allocation, fill, held
    make bench ARGS="requests fill"     some of them
    make bench ARGS="churn curves"      those that are done only when they are named; curves draws docs/images/ipam-*

Absolute numbers of a shared machine move by a factor of two or three with its load; so every round runs ours and the
baseline one after the other, in turns, and what counts is the ratio. Nothing here asserts on speed.
"""
