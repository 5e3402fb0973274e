"""Talk with GLM-4 in the terminal: python basic_demo/trans_cli_demo.py [--model FOLDER_OR_HUB_ID]"""

import sys

from glm4.cli.chat import main

if __name__ == "__main__":
    sys.exit(main())
