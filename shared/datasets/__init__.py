"""Lists of cases: reading and checking ``dataset.json``, names of cases, splits by patient, public data sets."""
