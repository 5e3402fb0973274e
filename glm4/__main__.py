"""`python -m glm4` is the `glm4` command."""

from .cli import main

raise SystemExit(main())
