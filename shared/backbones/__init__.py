"""Foundation models behind one small interface (stem, stages, channels, strides), and the reading of weights."""
