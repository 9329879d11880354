"""``python -m gspn2_deploy …`` equals the installed ``gspn2-deploy …``."""

from gspn2_deploy.cli import main

if __name__ == "__main__":
    main()
