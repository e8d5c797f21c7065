"""What every piece of Viaduct shares: the wire contract, the bus, the client, telemetry.

Imports none of the other pieces.
"""
