"""Commands of the collection; ``python -m shared --help`` lists them."""

from __future__ import annotations

import sys
from typing import Any

import fire

from shared.core.errors import InputError, install_one_line_errors

# Each command imports its code when it is called, so that `package` runs without torch.


def package(*names: str, out: str | None = None, repo: str | None = None) -> None:
    """Write dist/<name>_v<version>.zip of the bundles and models/model_info.json.

    Args:
        names: bundles, none for all.
        out: folder that gets dist and models, default the repository's root.
        repo: OWNER/NAME on GitHub, for the URLs in model_info.json.
    """
    from shared.serving.packaging import package as run

    run([str(name) for name in names], out=out, repo=repo)


def check(bundle: str, config_file: str | list[str] = "train", **overrides: Any) -> None:
    """Check a bundle's options, data, output folder, device and weights without running it; exit code 1 on a problem.

    Args:
        bundle: its name or folder.
        config_file: one of its configs ("train", "evaluate", "inference", an override), or several in a list.
        overrides: options of the run, as python -m monai.bundle run takes them.
    """
    from shared.options.check import check as run

    names = [config_file] if isinstance(config_file, str) else [str(name) for name in config_file]
    problems = run(str(bundle), names, sys.argv[2:], **overrides)
    for problem in problems:
        print(problem)
    if problems:
        print(f"{len(problems)} {'problem' if len(problems) == 1 else 'problems'}: nothing was run")
        raise SystemExit(1)
    print(f"{bundle} {' + '.join(names)}: ready")


def operating_point(
    bundle: str,
    split: str = "validation",
    aim: str = "dice",
    false_lesions: float = 1.0,
    report_split: str | None = None,
    config_file: str | list[str] = (),  # type: ignore[assignment]
    **overrides: Any,
) -> None:
    """Find the threshold and temperature that suit labelled cases: a table, a picture and the options to use next.

    Args:
        bundle: its name or folder.
        split: list of dataset.json to choose on.
        aim: dice, or sensitivity: the most lesions found with at most FALSE_LESIONS false ones per scan.
        false_lesions: see aim.
        report_split: another list of dataset.json, on which the choice is measured.
        config_file: the bundle's override files, such as cardiac or brats.
        overrides: options of the bundle's evaluation, such as --dataset_dir, --ckpt_dir and --output_dir.
    """
    from shared.options.operating_point import operating_point as run

    files = several(config_file) if config_file else []
    run(str(bundle), split, aim, false_lesions, report_split, files, sys.argv[2:], **overrides)


def options(bundle: str, markdown: bool = False) -> None:
    """Print a bundle's options as a table: name, meaning, type and default.

    Args:
        bundle: its name or folder.
        markdown: as Markdown, for a page.
    """
    from shared.options.check import find_bundle
    from shared.options.table import option_markdown, option_table

    configs = find_bundle(str(bundle)) / "configs"
    print(option_markdown(configs) if switch("markdown", markdown) else option_table(configs))


def datalist(
    layout: str | None = None,
    folder: str | None = None,
    out: str | None = None,
    seed: int = 0,
    val_share: float = 0.15,
    test_share: float = 0.2,
) -> None:
    """Write the dataset.json of a public data set in FOLDER; without arguments, list the layouts.

    Args:
        layout: the data set's name.
        folder: where it was unpacked.
        out: the new dataset.json or its folder, default <layout>/dataset.json in the current folder.
        seed: of the splits, where the publisher has none.
        val_share: share of the patients that validates.
        test_share: share of the patients that tests.
    """
    from shared.datasets.public import list_layouts, make_datalist

    if layout is None:
        print(list_layouts())
    elif folder is None:
        raise InputError(f"no folder given: python -m shared datalist {layout} FOLDER")
    else:
        make_datalist(str(layout), str(folder), out and str(out), seed, val_share, test_share)


def label(
    studies: str | None = None,
    models: str | list[str] = (),  # type: ignore[assignment]
    app: str = "label_app",
    host: str = "127.0.0.1",
    port: int = 8000,
    train: bool = True,
    start: bool = True,
    allow_origin: str | list[str] = (),  # type: ignore[assignment]
    no_token: bool = False,
) -> None:
    """Serve the bundles through MONAI Label, which has an environment of its own (docs/monai_label.md).

    Args:
        studies: folder of the images.
        models: names separated by commas, each a bundle or a bundle with a config, such as emclip_cardiac; default all.
        app: folder of the app, created or updated; it gets the weights that the server trains.
        host: address to listen on; 0.0.0.0 lets other machines in.
        port: port to listen on.
        train: offer training.
        start: false only sets up the app.
        allow_origin: other origins whose pages may use the server, e.g. https://viewer.hospital.org.
        no_token: true answers requests without a token.
    """
    from shared.serving.label_server import serve

    if studies is None:
        raise InputError("no folder of images given: python -m shared label --studies FOLDER")
    serve(
        str(studies),
        several(models),
        str(app),
        str(host),
        port,
        train=switch("train", train),
        start=switch("start", start),
        allow_origin=several(allow_origin),
        no_token=switch("no_token", no_token),
    )


def several(values: Any) -> list[str]:
    """Return the values of an option that is one text, several separated by commas, or a list."""
    parts = values.split(",") if isinstance(values, str) else values
    return [str(part).strip() for part in parts]


def switch(name: str, value: Any) -> bool:
    """Return an option as a boolean; the command line delivers "true" and "false" as text."""
    if str(value).lower() not in ("true", "false"):
        raise InputError(f"--{name} is {value!r}: give true or false")
    return str(value).lower() == "true"


if __name__ == "__main__":
    install_one_line_errors()
    verbs = (check, options, operating_point, datalist, label, package)
    fire.Fire({verb.__name__: verb for verb in verbs}, name="python -m shared")
