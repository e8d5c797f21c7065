"""The demo: VLAN and VXLAN networks from request to ping, on a stack of its own, every fact checked as it is shown.

    python -m demo        KEEP=1 leaves the stack running at the end

`script` is the order of the scenes, one file each; `stage` is what they play on; `narrator` is all that prints.
"""
