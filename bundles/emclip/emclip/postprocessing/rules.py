"""The rules for predicted masks, as the options of a run switch them on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from monai.transforms import KeepLargestConnectedComponentd, MapTransform

from emclip.postprocessing.cavity import CavityInWalld
from emclip.postprocessing.drawn_size import DrawnSized
from emclip.postprocessing.pieces import KeepCommonPieced


def shape_rules(
    structures: Sequence[str],
    largest_component: bool = True,
    cavity_and_wall: Sequence[str] | None = None,
    drawn_size: Mapping[str, float] | None = None,
) -> list[MapTransform]:
    """Return the transforms that clean up the masks of ``pred``, in their order.

    Args:
        structures: names of the channels of ``pred``.
        largest_component: keep one piece of all structures together, and one of each except the cavity; False also
            leaves out the rule for `cavity_and_wall`.
        cavity_and_wall: a cavity and the wall inside which it is kept.
        drawn_size: factor per structure by which its size changes.

    Raises:
        InputError: a structure is unknown, or a factor cannot be used.
    """
    names = list(structures)
    rules: list[MapTransform] = []
    if largest_component:
        rules.append(KeepCommonPieced("pred"))
        channels = list(range(len(names)))
        if cavity_and_wall:
            rules.append(CavityInWalld("pred", structures=names, cavity_and_wall=cavity_and_wall))
            channels.remove(names.index(cavity_and_wall[0]))  # its largest piece may be the aorta
        rules.append(KeepLargestConnectedComponentd("pred", channels, is_onehot=True, independent=True))
    if drawn_size:
        rules.append(DrawnSized("pred", structures=names, factors=drawn_size))
    return rules
