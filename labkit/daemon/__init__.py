"""labkitd: where one lab's host and its clients meet. The wire APIs live in the packages below.

Nothing is imported here: `python -m labkit.daemon` listens before anything heavy is loaded.
"""
