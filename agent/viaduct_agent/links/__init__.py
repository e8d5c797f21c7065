"""The host's links: the pure planner, and the thin layer that speaks rtnetlink."""
