"""The wire contract: one pydantic model per message type, one file per family."""
