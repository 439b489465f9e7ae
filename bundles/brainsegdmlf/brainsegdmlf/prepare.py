"""Make this bundle importable wherever it stands; every config runs this file first, under the key ``code``.

A checkout holds ``shared`` beside ``bundles``, a packaged bundle holds it inside its own folder.
"""

import sys
from pathlib import Path

root = Path(__file__).resolve().parents[1]
home = next((folder for folder in (root, *root.parents[1:2]) if (folder / "shared" / "__init__.py").is_file()), None)
if home is None:
    raise ModuleNotFoundError(f"no folder 'shared' in {root} nor beside bundles: unpack the whole bundle again")
for folder in (str(home), str(root)):
    if folder not in sys.path:
        sys.path.insert(0, folder)

from shared.options.start_up import start  # noqa: E402  (the path is set just above)

start(root, home)
