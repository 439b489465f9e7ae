"""Foundation models behind one small interface: stem, stages, channels, strides."""
