"""Fundus phantoms, the built-in data set: synthetic photographs of the optic disc by four cameras, nothing to download.

- `eye`: one eye without pixels: outlines of disc and cup, colours
- `vessels`: its retinal vessels
- `appearance`: its colour at given points, before any camera
- `cameras`: four cameras, which are the domains
- `dataset`: whole photographs, and the data set on disk
"""

from emclip.phantoms.dataset import FundusCase, make_fundus_case, make_fundus_phantoms

__all__ = ["FundusCase", "make_fundus_case", "make_fundus_phantoms"]
