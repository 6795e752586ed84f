"""Links in the documents that lead to no file of the repository. `make docs` runs it."""

import re
import sys
from pathlib import Path

root = Path(__file__).resolve().parents[1]
folders = ["controller", "crds", "functions", "charts", "tests", "docs"]
files = [*root.glob("*.md"), *(file for folder in folders for file in (root / folder).rglob("*.md"))]
broken = [
    f"{file.relative_to(root)}: {link} is no file"
    for file in files
    for link in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", file.read_text())
    if ":" not in link and not (file.parent / link).exists()
]
sys.exit("\n".join(broken) or None)
