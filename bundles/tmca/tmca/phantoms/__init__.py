"""Chest X-ray phantoms, the built-in data set: lung opacities, their mask and a sentence, nothing to download.

The image
- `anatomy`: one person: outlines of body, lungs, heart and bones, without pixels
- `painting`: outlines, lines and random fields as pixels
- `projection`: attenuation of the X-rays, layer by layer
- `opacities`: the opacities that the sentence names, and look-alikes that it does not name
- `film`: from attenuation to the stored picture

The words
- `sentence`: the sentence that describes a mask, and the way back
- `wording`: the same findings in other words

- `dataset`: whole cases, and the data set on disk
"""

from tmca.phantoms.dataset import ChestCase, make_chest_case, make_chest_phantoms

__all__ = ["ChestCase", "make_chest_case", "make_chest_phantoms"]
