"""Make this bundle's code importable, wherever the bundle stands; every config runs this file under the key ``code``.

A checkout holds ``shared`` beside ``bundles``, a packaged bundle holds it in its own folder.
"""

import sys
from pathlib import Path

root = Path(__file__).resolve().parents[1]
home = next((folder for folder in (root, *root.parents[1:2]) if (folder / "shared" / "__init__.py").is_file()), None)
if home is None:
    raise ModuleNotFoundError(f"no folder 'shared' in {root} or beside bundles: unpack the whole bundle again")
for folder in (str(home), str(root)):
    if folder not in sys.path:
        sys.path.insert(0, folder)

import shared  # noqa: E402  (found on the path that is set just above)

if not hasattr(shared, "__version__"):
    place = shared.__file__ or list(shared.__path__)[0]
    raise ImportError(f"{place} is another package called 'shared': run this bundle in a process without it")

from shared.options.start_up import prepare  # noqa: E402

prepare(home)
