"""Code that two or more bundles use: layers, backbones, data, reports. Never imports from ``bundles``."""

__version__ = "0.1.0"
