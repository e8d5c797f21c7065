"""`python -m viaduct_manager`."""

from viaduct_manager.main import main

main()
