"""One function per request type: read facts, let the model decide, write; no rule stands here."""
