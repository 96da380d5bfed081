"""`python -m platewise.cli` is `platewise`."""

from .app import main

main()
