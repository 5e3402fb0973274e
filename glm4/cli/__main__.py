"""`python -m glm4.cli` is the `glm4` command."""

from . import main

raise SystemExit(main())
