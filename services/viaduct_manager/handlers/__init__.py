"""One thin function per request: read facts, decide, save."""
