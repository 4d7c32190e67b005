"""The policy language: wishes, conflicts, negotiation, agreements. Plain Python, no web, no clock, no database."""
