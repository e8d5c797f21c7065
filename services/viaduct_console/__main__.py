"""python -m viaduct_console."""

from viaduct_console.main import main

main()
