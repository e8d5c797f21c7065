"""`SecurityGroup`: rules for NICs, kept on their own hosts."""
