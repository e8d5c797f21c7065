"""The demo: networks and their services from request to traffic, on a stack of its own, every fact checked as shown.

    python -m demo        KEEP=1 leaves the stack running at the end

`script` is the order of the scenes, one file each; `stage` is what they play on; `narrator` is all that prints.
"""
