"""The same command lines against Docker Engine and against labkit; see __main__."""
