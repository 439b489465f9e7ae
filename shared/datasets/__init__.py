"""Lists of cases: dataset.json, splits, checks of their files, public layouts."""
