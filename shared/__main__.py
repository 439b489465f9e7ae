"""Commands of the collection: ``python -m shared package``, ``python -m shared datalist``; ``--help`` explains each."""

from __future__ import annotations

import fire

from shared.errors import install_one_line_errors

# Each command imports what it needs when it is called: packing takes no torch.


def package(*names: str, out: str | None = None, repo: str | None = None) -> None:
    """Write dist/<name>_v<version>.zip of the bundles and models/model_info.json.

    Args:
        names: bundles, none for all.
        out: folder that gets dist and models, default the repository's root.
        repo: OWNER/NAME on GitHub, for the URLs in model_info.json.
    """
    from shared.packaging import package as run

    run([str(name) for name in names], out=out, repo=repo)


if __name__ == "__main__":
    install_one_line_errors()
    fire.Fire({"package": package}, name="python -m shared")
